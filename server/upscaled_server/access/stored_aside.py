"""Credits that are set aside where several servers can see it.

aside/CALLER/YYYYMM/ENTRY/ATTEMPT    as JSON: what the entry of the ledger may rise to, and until when this
                                     counts

Who wants to begin writes its entry first and then reads what is there: it counts what was written before its
own, and whoever comes later counts it. So of several that begin at once those are admitted that came first,
and what was charged and what is set aside never exceed the limit together. What is charged is written before
the entry is deleted, and read after the entries were: it may be seen in both places, and as an entry of the
ledger is known by its name, it is not counted twice.

The server whose work it is writes again and again that its entry still counts; if it is killed, the entry
stops counting after two minutes. Times are compared over the servers' clocks, which must not differ by more
than a minute. A server that is cut off from the store for longer than that time goes on with the work that
runs, and charges it later: only by that can more be spent than the limit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from decimal import Decimal
from typing import Any

from upscaled_server.access.accounts import Account
from upscaled_server.access.aside import Asked, Reserved, ReservedHere, check
from upscaled_server.access.prices import NOTHING
from upscaled_server.errors import DomainError, ProcessingFailed
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.store import MAX_RANGE, Entry, Store, VersionChanged

_LOG = logging.getLogger(__name__)

PREFIX = "aside"

COUNTS_SECONDS = 120.0
_CLOCKS_SECONDS = 10.0
"""For how much longer an entry counts, for clocks that differ."""
_SWEEP_SECONDS = 3600.0
_RELEASE_SECONDS = 1.0


class AsideInStore:
    """Nothing is written for callers without a limit. Waits for the store, and raises what it raises."""

    shared = True

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        counts_seconds: float = COUNTS_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._counts_seconds = counts_seconds
        self._held: set[_Held] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keeping: asyncio.Task[None] | None = None

    async def reserve(self, account: Account, asked: Asked) -> Reserved:
        if asked.limit is None:
            return ReservedHere(account, asked.due)
        making = self._begin(self._reserve(account, asked, asked.limit))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._give_back)
            raise

    async def aclose(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._keeping is not None:
            await cancel_for_certain(self._keeping)

    async def sweep(self) -> int:
        """Delete what counts no longer; how many there were. Whoever reads it does so too, but nobody may
        ever read it again."""
        return sum(
            [await self._delete(entry) async for entry in self._entries(PREFIX) if self._is_over(entry)]
        )

    async def _reserve(self, account: Account, asked: Asked, limit: Decimal) -> Reserved:
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="credits set aside")
        prefix = f"{PREFIX}/{account.caller}/{account.month.name}"
        held = _Held(f"{prefix}/{asked.entry}/{secrets.token_hex(8)}", asked.price)
        held.version = await self._store.create(held.key, self._value(held))
        self._held.add(held)
        try:
            risen = await self._read(prefix, held.version)
            # Behind the entries, or what is charged in between would be in neither.
            sums = await account.sums()
            missing = {name: max(NOTHING, to - sums.charged(name)) for name, to in risen.items()}
            own = missing.pop(asked.entry, NOTHING)
            check(account, own, limit, used=sums.credits, aside=sum(missing.values(), NOTHING))
        except BaseException:  # an interrupt too
            await self._drop(held)
            raise
        return _ReservedInStore(ReservedHere(account, asked.due), lambda: self._begin(self._drop(held)))

    async def _read(self, prefix: str, own: int) -> dict[str, Decimal]:
        """What each entry of the ledger may rise to, by what was noted up to version `own`."""
        risen: dict[str, Decimal] = defaultdict(Decimal)
        async for entry in self._entries(prefix):
            if self._is_over(entry):
                self._begin(self._delete(entry))
            elif entry.version <= own or _is_renewed(entry):
                name = entry.key.split("/")[3]
                risen[name] = max(risen[name], _amount(entry))
        return risen

    async def _entries(self, prefix: str) -> AsyncIterator[Entry]:
        last = ""
        while page := await self._store.range(prefix, after=last):
            for entry in page:
                yield entry
            last = page[-1].key
            if len(page) < MAX_RANGE:
                return

    async def _keep(self) -> None:
        """Renew what is held, and sweep now and then."""
        swept = time.monotonic()
        while True:
            # Three times as often as it must be.
            await asyncio.sleep(self._counts_seconds / 3)
            for held in list(self._held):
                try:
                    await self._renew(held)
                except DomainError as error:
                    _LOG.warning("credits that are set aside cannot be renewed: %s", error.message)
                    break
            if time.monotonic() - swept >= _SWEEP_SECONDS:
                swept = time.monotonic()
                with suppress(DomainError):
                    await self.sweep()

    async def _renew(self, held: _Held) -> None:
        async with held.one_change:
            if held not in self._held:
                return
            try:
                value = self._value(held, renewed=True)
                held.version = await self._store.update(held.key, value, held.version)
            except VersionChanged:
                # An answer was lost; or it counted no longer, and was deleted.
                found = await self._store.get(held.key)
                held.version = await self._store.create(held.key, value) if found is None else found.version

    async def _drop(self, held: _Held) -> None:
        async with held.one_change:
            self._held.discard(held)
            try:
                with suppress(VersionChanged):
                    await self._store.delete(held.key, held.version)
                    return
                # A renewal whose answer was lost.
                found = await self._store.get(held.key)
                if found is not None:
                    await self._store.delete(held.key, found.version)
            except DomainError as error:
                _LOG.warning("%s is set aside until its time is over: %s", held.key, error.message)

    async def _delete(self, entry: Entry) -> bool:
        """Whether it was there, as it was read."""
        with suppress(DomainError):
            await self._store.delete(entry.key, entry.version)
            return True
        return False

    def _is_over(self, entry: Entry) -> bool:
        return _until(entry) + _CLOCKS_SECONDS < self._clock()

    def _value(self, held: _Held, *, renewed: bool = False) -> bytes:
        until = round(self._clock() + self._counts_seconds, 3)
        values = {"credits": str(held.amount), "until": until, "renewed": renewed}
        return json.dumps(values, separators=(",", ":")).encode()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _give_back(self, made: asyncio.Task[Reserved]) -> None:
        """What was set aside for somebody who has left."""
        if not made.cancelled() and made.exception() is None:
            self._begin(made.result().release())


class _Held:
    """An entry of this server's."""

    def __init__(self, key: str, amount: Decimal) -> None:
        self.key = key
        self.amount = amount
        self.version = 0
        self.one_change = asyncio.Lock()


class _ReservedInStore:
    def __init__(self, here: ReservedHere, drop: Callable[[], asyncio.Task[None]]) -> None:
        self._here = here
        self._drop = drop

    async def release(self) -> None:
        await self._here.release()
        # A call does not wait long for a store that does not answer.
        await asyncio.wait([self._drop()], timeout=_RELEASE_SECONDS)


def _amount(entry: Entry) -> Decimal:
    return Decimal(_values(entry)["credits"])


def _until(entry: Entry) -> float:
    return float(_values(entry)["until"])


def _is_renewed(entry: Entry) -> bool:
    """It is then older than its version says, and older than whatever is being decided now."""
    return bool(_values(entry).get("renewed"))


def _values(entry: Entry) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(entry.value)
        Decimal(values["credits"]), float(values["until"])
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ProcessingFailed(
            f"the entry {entry.key} cannot be read ({type(error).__name__}); delete it", key=entry.key
        ) from error
    return values
