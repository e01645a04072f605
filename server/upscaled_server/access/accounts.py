"""What every caller has used of a month, in memory over the store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from upscaled_server.access import ledger
from upscaled_server.access.ledger import Charged, Month
from upscaled_server.access.prices import NOTHING
from upscaled_server.access.usage import EntrySums, Sums
from upscaled_server.errors import ProcessingFailed
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged
from upscaled_server.telemetry import metrics

_MAX_ACCOUNTS = 4096


class Account:
    """One caller's month. Sums are read from the store once, and again only after a write of which nobody
    knows whether it happened."""

    def __init__(
        self,
        store: Store,
        caller: str,
        month: Month,
        *,
        empty: Callable[[], Sums] = Sums,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`catch_up` waits until `take` was called with what others wrote; the sums that `empty` makes must
        then bear to count it again."""
        self._store = store
        self._empty = empty
        self._catch_up = catch_up
        self._one_change = asyncio.Lock()
        self._sums = empty()
        self._complete = False
        self.caller = caller
        self.month = month
        self.reserved = NOTHING
        """Set aside for work that runs here."""
        self.holders = 0

    def reserve(self, amount: Decimal) -> None:
        """Set an amount aside, until it is released."""
        self.reserved += amount
        self.holders += 1

    def release(self, amount: Decimal) -> None:
        self.reserved -= amount
        self.holders -= 1

    async def sums(self) -> Sums:
        """All that was charged when this was called, and what was since."""
        if self._catch_up is not None:
            await self._catch_up()
        if not self._complete:
            async with self._one_change:
                while not self._complete:
                    await self._load()
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
                self.forget()
                raise

    def take(self, entry: str, found: Entry) -> None:
        """Count what somebody else may have written."""
        try:
            self._sums.count(entry, ledger.read(found))
        except ProcessingFailed:  # who asks for the sums is told
            self.forget()

    def forget(self) -> None:
        """Let the sums be read again."""
        self._sums, self._complete = self._empty(), False

    async def _load(self) -> None:
        sums = self._sums = self._empty()
        async for entry, charged in ledger.named_charges(self._store, self.caller, self.month):
            sums.count(entry, charged)
        self._complete = self._sums is sums

    async def _charge(self, entry: str, charged: Charged) -> Decimal:
        key, value = self._key(entry), ledger.to_value(charged)
        while True:
            try:
                await self._store.create(key, value)
            except KeyExists:
                found = await self._store.get(key)
            else:
                self._count(entry, charged)
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
            self._count(entry, charged, before)
            return charged.credits

    def _count(self, entry: str, charged: Charged, before: Charged | None = None) -> None:
        if self._complete:
            self._sums.count(entry, charged, before)
        more = charged.credits - (NOTHING if before is None else before.credits)
        metrics.CREDITS.labels(metrics.MODELS(charged.model)).inc(float(more))

    def _key(self, entry: str) -> str:
        return ledger.entry_key(self.caller, self.month, entry)


class Accounts:
    """The accounts in use, and those used last. `shared`: others charge them too, over the same store."""

    def __init__(self, store: Store, *, shared: bool = False) -> None:
        self._store = store
        self._accounts: OrderedDict[tuple[str, str], Account] = OrderedDict()
        self._reader = (
            ChangeReader(store, ledger.LEDGER, self._take, self._forget, wanted=self._is_known)
            if shared
            else None
        )

    def of(self, caller: str, month: Month) -> Account:
        """To be read at once. What is to be changed is `held` meanwhile."""
        name = (caller, month.name)
        account = self._accounts.get(name)
        if account is None:
            self._make_room()
            account = self._accounts[name] = self._made(caller, month)
        self._accounts.move_to_end(name)
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

    async def follow(self) -> None:
        """Count what others charge as it comes, for ever; without it, when it is needed."""
        if self._reader is not None:
            await self._reader.follow()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _made(self, caller: str, month: Month) -> Account:
        if self._reader is None:
            return Account(self._store, caller, month)
        return Account(self._store, caller, month, empty=EntrySums, catch_up=self._reader.catch_up)

    def _make_room(self) -> None:
        if len(self._accounts) >= _MAX_ACCOUNTS:
            unused = (name for name, account in self._accounts.items() if not account.holders)
            if (oldest := next(unused, None)) is not None:
                del self._accounts[oldest]

    def _is_known(self, key: str) -> bool:
        return ledger.owner_of(key)[:2] in self._accounts

    def _take(self, key: str, found: Entry | None) -> None:
        caller, month, entry = ledger.owner_of(key)
        account = self._accounts.get((caller, month))
        if account is not None and found is not None:
            account.take(entry, found)

    async def _forget(self) -> None:
        for account in self._accounts.values():
            account.forget()
