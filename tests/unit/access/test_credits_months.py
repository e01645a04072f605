"""Credits begin anew with each month; work belongs to the month in which it was admitted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.unit.access.conftest import Clock
from tests.unit.access.credit_tools import (
    MEGAPIXEL,
    MODEL,
    caller_with,
    charges_of,
    credits_over,
    pay,
)

from upscaled_server.access.ledger import Month
from upscaled_server.access.usage import ModelUse
from upscaled_server.errors import QuotaExceeded
from upscaled_server.state.store import Store
from upscaled_server.state.ulid import first_ulid

DAY = 24 * 3600.0
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("month", "before", "after"),
    [
        ((2026, 1), (2025, 12), (2026, 2)),
        ((2026, 12), (2026, 11), (2027, 1)),
        ((2026, 6), (2026, 5), (2026, 7)),
    ],
)
def test_months_follow_each_other_over_the_year(
    month: tuple[int, int], before: tuple[int, int], after: tuple[int, int]
) -> None:
    assert Month(*month).preceding == Month(*before)
    assert Month(*month).following == Month(*after)
    assert Month(*month).end == Month(*after).start


async def test_a_new_month_has_all_its_credits(store: Store, clock: Clock) -> None:
    clock.now = NEW_YEAR - 1
    kept = credits_over(store, clock=clock)
    caller = caller_with(2)
    await pay(kept, caller)
    with pytest.raises(QuotaExceeded, match="2027-01-01"):
        await pay(kept, caller)
    clock.now = NEW_YEAR
    assert await kept.remaining(caller) == 2
    await pay(kept, caller)


async def test_what_runs_over_the_end_of_the_month_is_charged_to_the_one_it_began_in(
    store: Store, clock: Clock
) -> None:
    clock.now = NEW_YEAR - 1
    kept = credits_over(store, clock=clock)
    caller = caller_with(2)
    async with kept.reserved(caller, "", MODEL, MEGAPIXEL) as charge:
        clock.now = NEW_YEAR + 1
        assert charge is not None
        await charge.settle(MEGAPIXEL)
    assert await kept.remaining(caller) == 2
    assert len(await charges_of(store, caller, NEW_YEAR - 1)) == 1


async def test_a_call_tried_again_after_the_end_of_the_month_is_not_charged_again(
    store: Store, clock: Clock
) -> None:
    clock.now = NEW_YEAR - 1
    kept = credits_over(store, clock=clock)
    caller = caller_with(2)
    await pay(kept, caller, "call-a")
    clock.now = NEW_YEAR + 1
    assert await pay(kept, caller, "call-a") == 2
    assert await kept.remaining(caller) == 2


async def test_a_job_is_charged_to_the_month_in_which_it_was_made_however_late_it_runs(
    store: Store, clock: Clock
) -> None:
    clock.now = NEW_YEAR + 60 * DAY
    kept = credits_over(store, clock=clock)
    caller = caller_with(2)
    job = first_ulid(round((NEW_YEAR - 1) * 1000))
    await pay(kept, caller, job)
    await pay(kept, caller, job)
    (charged,) = await charges_of(store, caller, NEW_YEAR - 1)
    assert charged.at == NEW_YEAR - 1


async def test_usage_is_summed_by_model_over_any_period(store: Store, clock: Clock) -> None:
    kept = credits_over(store, "default=1, a=2", clock=clock)
    caller = caller_with(None)
    for days, model in [(-40, "a"), (-1, "a"), (0, "b"), (1, "a"), (2, "b")]:
        clock.now = NEW_YEAR + days * DAY
        async with kept.reserved(caller, "", model, MEGAPIXEL) as charge:
            assert charge is not None
            await charge.settle(MEGAPIXEL // 2)

    async def used(first: float, last: float) -> list[ModelUse]:
        return await kept.usage(caller.name, NEW_YEAR + first * DAY, NEW_YEAR + last * DAY)

    half = MEGAPIXEL // 2
    assert await used(-60, 60) == [
        ModelUse("a", 3, 3 * half, Decimal(3)),
        ModelUse("b", 2, 2 * half, Decimal(1)),
    ]
    # A part of a month, its ends included and excluded; the month until now; nothing.
    assert await used(0, 2) == [ModelUse("a", 1, half, Decimal(1)), ModelUse("b", 1, half, Decimal("0.5"))]
    assert await used(0, 2.5) == [ModelUse("a", 1, half, Decimal(1)), ModelUse("b", 2, 2 * half, Decimal(1))]
    assert await used(-30, -2) == []
