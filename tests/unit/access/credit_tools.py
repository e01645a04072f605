"""Credits over a real store, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from upscaled_server.access import ledger
from upscaled_server.access.caller import Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.ledger import Charged, Month
from upscaled_server.access.prices import PriceSettings
from upscaled_server.state.store import Store

MODEL = "real-esrgan-x4-plus"
MEGAPIXEL = 1_000_000
# 2026-11-22 02:00 UTC
NOW = 1_795_312_800.0


def credits_over(
    store: Store, prices: str = "default=1+1", clock: Callable[[], float] = lambda: NOW
) -> Credits:
    return Credits(store, PriceSettings.model_validate({"prices": prices}), clock)


def caller_with(monthly: float | None) -> Caller:
    return Caller("thumbnails", monthly_credits=monthly)


async def pay(
    kept: Credits, caller: Caller, entry: str = "", *, pixels: int = MEGAPIXEL, share: float = 1
) -> Decimal:
    """One piece of work, of which a share is handed over; what it has cost then."""
    async with kept.reserved(caller, entry, MODEL, pixels) as charge:
        assert charge is not None
        return await charge.settle(int(pixels * share))


async def charges_of(store: Store, caller: Caller, moment: float = NOW) -> list[Charged]:
    """What the ledger says of the month of a moment."""
    return [charged async for charged in ledger.charges(store, caller.name, Month.at(moment))]
