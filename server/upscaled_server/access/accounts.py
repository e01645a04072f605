"""What every caller has used of a month, and what is set aside for work that runs, in memory over the
store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from upscaled_server.access import ledger
from upscaled_server.access.ledger import Charged, Month
from upscaled_server.access.prices import NOTHING
from upscaled_server.access.usage import Sums
from upscaled_server.state.store import KeyExists, Store, VersionChanged
from upscaled_server.telemetry import metrics

_MAX_ACCOUNTS = 4096


class Account:
    """One caller's month. Sums are read from the store once, and again only after a write of which nobody
    knows whether it happened."""

    def __init__(self, store: Store, caller: str, month: Month) -> None:
        self._store = store
        self._one_change = asyncio.Lock()
        self._sums: Sums | None = None
        self.caller = caller
        self.month = month
        self.reserved = NOTHING
        self.holders = 0

    def reserve(self, amount: Decimal) -> None:
        """Set an amount aside, until it is released."""
        self.reserved += amount
        self.holders += 1

    def release(self, amount: Decimal) -> None:
        self.reserved -= amount
        self.holders -= 1

    async def sums(self) -> Sums:
        if (known := self._sums) is not None:
            return known
        async with self._one_change:
            if self._sums is None:
                sums = Sums()
                async for charged in ledger.charges(self._store, self.caller, self.month):
                    sums.add(charged)
                self._sums = sums
            return self._sums

    async def find(self, entry: str) -> Charged | None:
        """What has been charged for this piece of work."""
        found = await self._store.get(self._key(entry))
        return None if found is None else ledger.read(found)

    async def charge(self, entry: str, charged: Charged) -> Decimal:
        """Write the entry of a piece of work, or raise the one that is there to this amount; the amount that
        stands then. An entry is never lowered."""
        async with self._one_change:
            try:
                return await self._charge(entry, charged)
            except BaseException:  # it may have been written: read again
                self._sums = None
                raise

    async def _charge(self, entry: str, charged: Charged) -> Decimal:
        key, value = self._key(entry), ledger.to_value(charged)
        while True:
            try:
                await self._store.create(key, value)
            except KeyExists:
                found = await self._store.get(key)
            else:
                if self._sums is not None:
                    self._sums.add(charged)
                _count(charged.model, charged.credits)
                return charged.credits
            if found is None:
                continue
            before = ledger.read(found)
            if before.credits >= charged.credits:
                return before.credits
            try:
                await self._store.update(key, value, found.version)
            except VersionChanged:
                continue
            if self._sums is not None:
                self._sums.replace(before, charged)
            _count(charged.model, charged.credits - before.credits)
            return charged.credits

    def _key(self, entry: str) -> str:
        return ledger.entry_key(self.caller, self.month, entry)


def _count(model: str, amount: Decimal) -> None:
    metrics.CREDITS.labels(metrics.MODELS(model)).inc(float(amount))


class Accounts:
    """The accounts in use, and those used last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._accounts: OrderedDict[tuple[str, Month], Account] = OrderedDict()

    def of(self, caller: str, month: Month) -> Account:
        """To be read at once. What is to be changed is `held` meanwhile."""
        account = self._accounts.get((caller, month))
        if account is None:
            self._make_room()
            account = self._accounts[caller, month] = Account(self._store, caller, month)
        self._accounts.move_to_end((caller, month))
        return account

    @contextmanager
    def held(self, caller: str, month: Month) -> Iterator[Account]:
        """The one account of a caller's month, for a change."""
        account = self.of(caller, month)
        account.holders += 1
        try:
            yield account
        finally:
            account.holders -= 1

    def _make_room(self) -> None:
        if len(self._accounts) >= _MAX_ACCOUNTS:
            unused = (name for name, account in self._accounts.items() if not account.holders)
            if (oldest := next(unused, None)) is not None:
                del self._accounts[oldest]
