"""Credits: what work costs a caller, what is left of the month, and that nobody spends more than that.

The price is set aside before work begins and charged when it ends, for what was handed over.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from upscaled_server.access import ledger
from upscaled_server.access.accounts import Account, Accounts
from upscaled_server.access.aside import Aside, AsideInMemory, Asked, Reserved
from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.access.ledger import Charged, Month
from upscaled_server.access.prices import NOTHING, PriceSettings, credits_of, share_of
from upscaled_server.access.usage import ModelUse, Sums
from upscaled_server.state.store import Store
from upscaled_server.state.ulid import is_ulid, milliseconds_of


class Charge:
    """The price of one piece of work, set aside. `settle` it once, for what was handed over."""

    def __init__(
        self, account: Account, entry: str, price: Charged, reserved: Reserved, writes: Writes
    ) -> None:
        self._account = account
        self._entry = entry
        self._price = price
        self._reserved = reserved
        self._writes = writes
        self._settling = False

    async def settle(self, pixels: int) -> Decimal:
        """Charge for this many pixels of the output; what the work has cost by now, which is more where an
        earlier attempt at it delivered more.

        It is written to its end, even if who waits for it is cancelled in the middle.
        """
        self._settling = True
        return await self._writes.to_its_end(self._settle(pixels))

    async def _settle(self, pixels: int) -> Decimal:
        price = self._price
        amount = share_of(price.credits, pixels, price.pixels)
        try:
            return await self._account.charge(self._entry, replace(price, pixels=pixels, credits=amount))
        finally:
            await self._reserved.release()

    async def aclose(self) -> None:
        """Give back what is set aside, unless `settle` does."""
        if not self._settling:
            await self._reserved.release()


class Writes:
    """Charges being written."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Decimal]] = set()

    async def to_its_end(self, work: Coroutine[Any, Any, Decimal]) -> Decimal:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def wait(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Credits:
    """Keeps the credits of every caller that has a key, if there are prices. `aside`: where it is noted what
    is set aside; in memory, or with the other servers that share the store.
    """

    def __init__(
        self,
        store: Store,
        prices: PriceSettings,
        clock: Callable[[], float] = time.time,
        *,
        aside: Aside | None = None,
    ) -> None:
        self._aside = aside or AsideInMemory()
        self._accounts = Accounts(store, shared=self._aside.shared)
        self._store = store
        self._prices = prices
        self._clock = clock
        self._writes = Writes()

    def kept_for(self, caller: Caller) -> bool:
        """Whether this caller's credits are kept at all."""
        return bool(self._prices.prices) and caller.name != ANONYMOUS.name

    def price(self, caller: Caller, model: str, output_pixels: int) -> Decimal:
        """What an output of this size costs; 0 where credits are not kept. By catalogue name."""
        return self._prices.of(model).of(output_pixels) if self.kept_for(caller) else NOTHING

    @asynccontextmanager
    async def reserved(
        self, caller: Caller, entry: str, model: str, output_pixels: int
    ) -> AsyncIterator[Charge | None]:
        """Set the price aside while the context lasts; None where credits are not kept.

        `entry` names the piece of work, so that it is charged once however often it is tried: a job's id, or
        any other characters that keys in the store may have; empty where nothing will be tried again. What an
        earlier attempt was charged is not asked for again. Raises `QuotaExceeded`.
        """
        if not self.kept_for(caller):
            yield None
            return
        now = self._clock()
        at = milliseconds_of(entry) / 1000 if is_ulid(entry) else now
        month = await self._month_of(caller, entry, Month.at(at))
        with self._accounts.held(caller.name, month) as account:
            before = await account.find(entry) if entry else None
            amount = self._prices.of(model).of(output_pixels)
            price = Charged(model, output_pixels, amount, before.at if before else at)
            due = max(NOTHING, amount - before.credits) if before else amount
            name = entry or f"call-{secrets.token_hex(16)}"
            limit = None if caller.monthly_credits is None else credits_of(caller.monthly_credits)
            reserved = await self._aside.reserve(account, Asked(name, amount, due, limit))
            charge = Charge(account, name, price, reserved, self._writes)
        try:
            yield charge
        finally:
            await charge.aclose()

    async def remaining(self, caller: Caller) -> Decimal | None:
        """What is left this month, never below 0; None where there is no end."""
        if not self.kept_for(caller) or caller.monthly_credits is None:
            return None
        sums = await self._accounts.of(caller.name, Month.at(self._clock())).sums()
        return max(NOTHING, credits_of(caller.monthly_credits) - sums.credits)

    async def usage(self, caller: str, start: float, end: float | None = None) -> list[ModelUse]:
        """By model, of the work admitted from `start` to before `end` (Unix seconds); None: until now."""
        total, now = Sums(), self._clock()
        until = math.inf if end is None or end > now else end
        month, last = Month.at(start), Month.at(min(now, until))
        while month <= last:
            if start <= month.start and month.end <= until:
                total.add_all((await self._accounts.of(caller, month).sums()).by_model())
            else:
                async for charged in ledger.charges(self._store, caller, month):
                    if start <= charged.at < until:
                        total.add(charged)
            month = month.following
        return total.by_model()

    async def follow(self) -> None:
        """Count what other servers charge as it comes, for ever, so that less is left to be read when it is
        needed; nothing where nothing is shared."""
        await self._accounts.follow()

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await self._writes.wait()
        await self._aside.aclose()
        self._accounts.close()

    async def _month_of(self, caller: Caller, entry: str, month: Month) -> Month:
        """Where the entry is, or will be: what is tried again after the end of a month is in the one
        before."""
        if entry and not is_ulid(entry):
            before = self._accounts.of(caller.name, month.preceding)
            if await before.find(entry) is not None:
                return month.preceding
        return month
