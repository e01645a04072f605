"""Work is charged once, for what was handed over, and refused where credits do not suffice."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.access.credit_tools import (
    MEGAPIXEL,
    MODEL,
    NOW,
    caller_with,
    charges_of,
    credits_over,
    pay,
)

from upscaled_server.access import accounts
from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.errors import ProcessingFailed, QuotaExceeded
from upscaled_server.state.store import Store


async def test_work_costs_its_base_and_its_megapixels(store: Store) -> None:
    kept = credits_over(store, f"default=9, {MODEL}=0.5+0.25")
    caller = caller_with(100)
    assert await pay(kept, caller, pixels=2 * MEGAPIXEL) == 1
    assert await kept.remaining(caller) == 99


async def test_a_share_costs_a_share_and_never_more(store: Store) -> None:
    kept = credits_over(store, "default=1")
    assert await pay(kept, caller_with(100), share=0.33339) == Decimal("0.3333")
    (charged,) = await charges_of(store, caller_with(100))
    assert (charged.model, charged.pixels, charged.at) == (MODEL, 333_390, NOW)


async def test_what_is_not_settled_costs_nothing(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(2)
    async with kept.reserved(caller, "", MODEL, MEGAPIXEL):
        pass
    assert await charges_of(store, caller) == []
    assert await pay(kept, caller) == 2


async def test_running_out_names_what_is_asked_what_is_left_and_when_the_month_ends(
    store: Store,
) -> None:
    kept = credits_over(store)
    caller = caller_with(2.5)
    await pay(kept, caller)
    with pytest.raises(QuotaExceeded) as caught:
        await pay(kept, caller)
    assert caught.value.subject == "caller:thumbnails"
    assert caught.value.message == (
        "credits: 2 are needed, 0.5 are left of 2.5 for the month that ends on 2026-12-01 at 00:00 UTC"
    )
    assert caught.value.numbers == {
        "asked": "2.0000",
        "left": "0.5000",
        "limit": "2.5000",
        "month_ends": "2026-12-01T00:00:00Z",
    }


async def test_what_runs_already_is_set_aside(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(3)
    async with kept.reserved(caller, "", MODEL, MEGAPIXEL):
        with pytest.raises(QuotaExceeded, match=r"1 are left of 3 .* 2 set aside for work that runs"):
            await pay(kept, caller)
    assert await pay(kept, caller) == 2


async def test_a_retry_is_charged_once_and_asks_for_nothing_more(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(2)
    assert [await pay(kept, caller, "call-a") for _ in range(3)] == [2, 2, 2]
    assert len(await charges_of(store, caller)) == 1
    assert await kept.remaining(caller) == 0


async def test_a_retry_that_delivers_more_raises_the_entry_to_the_price(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(2)
    assert await pay(kept, caller, "call-a", share=0.25) == Decimal("0.5")
    assert await pay(kept, caller, "call-a") == 2
    assert await pay(kept, caller, "call-a", share=0.25) == 2
    (charged,) = await charges_of(store, caller)
    assert (charged.credits, charged.pixels) == (2, MEGAPIXEL)


async def test_two_attempts_at_once_are_charged_once(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(100)
    assert await asyncio.gather(*(pay(kept, caller, "call-a") for _ in range(8))) == [2] * 8
    assert await kept.remaining(caller) == 98


async def test_who_is_cancelled_while_it_is_charged_is_charged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = credits_over(store)
    caller = caller_with(2)
    writing, create = asyncio.Event(), store.create

    async def announced(key: str, value: bytes) -> int:
        writing.set()
        return await create(key, value)

    monkeypatch.setattr(store, "create", announced)
    paying = asyncio.create_task(pay(kept, caller))
    await writing.wait()
    paying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paying
    await kept.aclose()
    assert await kept.remaining(caller) == 0
    assert [charged.credits for charged in await charges_of(store, caller)] == [2]


async def test_a_charge_that_cannot_be_written_is_an_error_and_gives_back_what_was_set_aside(
    store: Store,
) -> None:
    kept = credits_over(store)
    caller = caller_with(2)
    await store.create("ledger/thumbnails/202611/call-a", b"not a charge")
    with pytest.raises(ProcessingFailed, match="call-a"):
        await pay(kept, caller, "call-a")
    entry = await store.get("ledger/thumbnails/202611/call-a")
    assert entry is not None
    await store.delete(entry.key, entry.version)
    assert await pay(kept, caller, "call-a") == 2


@pytest.mark.parametrize(("prices", "caller"), [("", caller_with(1)), ("default=1", ANONYMOUS)])
async def test_nothing_is_kept_without_prices_or_without_a_key(
    store: Store, prices: str, caller: Caller
) -> None:
    kept = credits_over(store, prices)
    assert kept.price(caller, MODEL, MEGAPIXEL) == 0
    async with kept.reserved(caller, "", MODEL, MEGAPIXEL) as charge:
        assert charge is None
    assert await kept.remaining(caller) is None


async def test_a_caller_without_a_limit_is_charged_without_end(store: Store) -> None:
    kept = credits_over(store)
    caller = caller_with(None)
    assert await pay(kept, caller) == 2
    assert await kept.remaining(caller) is None
    assert len(await charges_of(store, caller)) == 1


async def test_credits_that_were_lowered_below_what_is_used_leave_nothing(store: Store) -> None:
    kept = credits_over(store)
    await pay(kept, caller_with(100))
    assert await kept.remaining(caller_with(1)) == 0


async def test_a_server_by_itself_writes_one_entry_for_a_call_and_reads_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = credits_over(store)
    caller = caller_with(100)
    await kept.remaining(caller)
    asked: list[str] = []

    def noted(name: str) -> Any:
        work = getattr(store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            asked.append(name)
            return work(*arguments, **options)

        return call

    for name in ("get", "create", "update", "delete", "range", "watch"):
        monkeypatch.setattr(store, name, noted(name))
    await pay(kept, caller)
    assert await kept.remaining(caller) == 98
    assert asked == ["create"]


async def test_an_account_in_use_is_not_forgotten_for_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_MAX_ACCOUNTS", 2)
    kept = credits_over(store)
    caller = caller_with(3)
    async with kept.reserved(caller, "", MODEL, MEGAPIXEL):
        for name in ("anna", "ben", "carla", "dora"):
            await pay(kept, Caller(name, monthly_credits=2))
        with pytest.raises(QuotaExceeded):
            await pay(kept, caller)
    assert await kept.remaining(Caller("anna", monthly_credits=2)) == 0
