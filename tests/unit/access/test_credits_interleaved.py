"""However calls interleave, nobody spends more than there is, and the sums in memory are those of the
ledger."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.access.credit_tools import MEGAPIXEL, MODEL, caller_with, charges_of, credits_over

from upscaled_server.access.credits import Credits
from upscaled_server.errors import QuotaExceeded
from upscaled_server.state.sqlite import SqliteStore

MONTHLY = 10


@dataclass(frozen=True)
class Call:
    """`entry` empty: never tried again. `ends`: how the call leaves."""

    entry: str
    megapixels: int
    share: float
    ends: str
    pauses: int


class Hesitant:
    """A real store that lets others go first, before and after each of its steps."""

    def __init__(self, store: SqliteStore, pauses: list[int]) -> None:
        self._store = store
        self._pauses: Iterator[int] = cycle(pauses)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        work = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            await _pause(next(self._pauses))
            try:
                return await work(*arguments, **options)
            finally:
                await _pause(next(self._pauses))

        return call


async def _pause(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


_calls = st.lists(
    st.builds(
        Call,
        entry=st.sampled_from(["", "", "call-a", "call-b"]),
        megapixels=st.integers(0, 4),
        share=st.sampled_from([1.0, 1.0, 0.5, 0.0001]),
        ends=st.sampled_from(["settles", "settles", "leaves", "cancelled"]),
        pauses=st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(calls=_calls, pauses=st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_nobody_spends_more_than_there_is(calls: list[Call], pauses: list[int]) -> None:
    asyncio.run(_check(calls, pauses))


async def _check(calls: list[Call], pauses: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "state.db")
        try:
            kept = credits_over(Hesitant(store, pauses))  # type: ignore[arg-type]
            caller = caller_with(MONTHLY)
            outcomes = await asyncio.gather(*(_make(kept, call) for call in calls))
            await kept.aclose()
            charges = await charges_of(store, caller)
            spent = sum((charged.credits for charged in charges), Decimal(0))
            assert spent <= MONTHLY
            assert await kept.remaining(caller) == MONTHLY - spent
            assert await credits_over(store).remaining(caller) == MONTHLY - spent
            assert len(charges) <= len(calls)
            # All that was set aside is there again.
            async with kept.reserved(caller, "", MODEL, int((MONTHLY - spent - 1) * MEGAPIXEL)) as charge:
                assert charge is not None
            assert _dearest(outcomes) <= spent
        finally:
            await store.aclose()


async def _make(kept: Credits, call: Call) -> tuple[str, Decimal]:
    """The entry and what the call was told it cost."""
    work = asyncio.create_task(_work(kept, call))
    if call.ends == "cancelled":
        await _pause(call.pauses * 3)
        work.cancel()
    try:
        return call.entry, await work
    except (QuotaExceeded, asyncio.CancelledError):
        return call.entry, Decimal(0)


async def _work(kept: Credits, call: Call) -> Decimal:
    pixels = call.megapixels * MEGAPIXEL + 1
    async with kept.reserved(caller_with(MONTHLY), call.entry, MODEL, pixels) as charge:
        await _pause(call.pauses)
        if charge is None or call.ends == "leaves":
            return Decimal(0)
        return await charge.settle(max(1, int(pixels * call.share)))


def _dearest(outcomes: list[tuple[str, Decimal]]) -> Decimal:
    """What calls were told they cost: each of its own, or once per entry."""
    named: dict[str, Decimal] = {}
    for entry, cost in outcomes:
        if entry:
            named[entry] = max(cost, named.get(entry, Decimal(0)))
    return sum((cost for entry, cost in outcomes if not entry), Decimal(0)) + sum(named.values(), Decimal(0))
