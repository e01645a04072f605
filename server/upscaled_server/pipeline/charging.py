"""Credits around the making of one image: set aside before it, charged after it for what was handed over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from upscaled_server.access.credits import Charge, Credits
from upscaled_server.errors import DeadlinePassed, DomainError
from upscaled_server.pipeline.handed_over import HandedOver
from upscaled_server.pipeline.layout import Layout
from upscaled_server.pipeline.request import Request
from upscaled_server.pipeline.settle import Settled

log = logging.getLogger(__name__)

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Bill:
    """What has been charged and is left; what is left is None where there is no end of it."""

    charged: Decimal = NOTHING
    remaining: Decimal | None = None


class Tab:
    """What one piece of work owes; nothing without a charge."""

    def __init__(self, charging: Charging, request: Request, charge: Charge | None, pixels: int) -> None:
        self._charging = charging
        self._request = request
        self._charge = charge
        self._pixels = pixels

    async def pay(self) -> Bill:
        """For all of it."""
        charged = NOTHING if self._charge is None else await self._charge.settle(self._pixels)
        return replace(await self._charging.bill(self._request), charged=charged)

    async def pay_share(self, handed_over: HandedOver) -> None:
        """For what has been handed over so far. The work is over, so nobody is told of errors but the log."""
        if self._charge is None or not self._request.streamed or not handed_over.pixels:
            return
        try:
            await self._charge.settle(handed_over.pixels)
        except DomainError as error:
            log.warning("what was handed over could not be charged: %s", error.message)


class Charging:
    """Sets credits aside and charges them, for callers whose credits are kept."""

    def __init__(self, kept: Credits) -> None:
        self._credits = kept

    def priced(self, layout: Layout, request: Request) -> Layout:
        """The layout, knowing what the work will cost."""
        price = self._credits.price(request.caller, layout.options.model, layout.size.pixels)
        return replace(layout, estimated_credits=price)

    async def bill(self, request: Request) -> Bill:
        """Where nothing is charged."""
        return Bill(remaining=await self._credits.remaining(request.caller))

    async def entry_of(self, request: Request, settled: Settled, data: bytes | bytearray) -> str:
        """What names the work in the ledger. Calls that have the same id, image and options are one that is
        tried again; empty where nothing will be."""
        if request.ledger_id or not request.request_id or not self._credits.kept_for(request.caller):
            return request.ledger_id
        return await asyncio.to_thread(_name, request.request_id, settled, data)

    @asynccontextmanager
    async def tab(
        self, request: Request, layout: Layout, entry: str, handed_over: HandedOver
    ) -> AsyncIterator[Tab]:
        """Around the work. Raises `QuotaExceeded`.

        Who leaves in the middle, or lets the time pass, pays for what was handed over; where the server
        fails, nobody does.
        """
        model, pixels = layout.options.model, layout.size.pixels
        async with self._credits.reserved(request.caller, entry, model, pixels) as charge:
            tab = Tab(self, request, charge, pixels)
            try:
                yield tab
            except (asyncio.CancelledError, GeneratorExit, DeadlinePassed):
                await tab.pay_share(handed_over)
                raise


def _name(request_id: str, settled: Settled, data: bytes | bytearray) -> str:
    payload = hashlib.sha256(data)
    payload.update(repr((request_id, replace(settled.options, labels={}))).encode())
    return f"call-{payload.hexdigest()[:32]}"
