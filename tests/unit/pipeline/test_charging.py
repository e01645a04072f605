"""Who pays for work that ends in the middle, and how work that is tried again is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from upscaled_server.access.caller import Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.prices import PriceSettings
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import DeadlinePassed, WorkerLost
from upscaled_server.media.info import ImageInfo
from upscaled_server.media.size import OutputSize
from upscaled_server.pipeline.charging import Charging
from upscaled_server.pipeline.events import Tile
from upscaled_server.pipeline.handed_over import HandedOver
from upscaled_server.pipeline.layout import Layout
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Bytes, Options, Request, TileEncoding
from upscaled_server.pipeline.settle import settle
from upscaled_server.state.sqlite import SqliteStore

CALLER = Caller("thumbnails", monthly_credits=10)
SIZE = OutputSize(1000, 1000, (0, 0, 250, 250))
SETTLED = settle(Options(), Catalogue(), LimitSettings(), ("ncnn",))
LAYOUT = Layout(SETTLED, ImageInfo("PNG", 250, 250, 3, False, 8, 1, 1), SIZE, (), 8, False, "a.png", 0.0)
HALF = Tile(0, 0, 0, 1000, 500, TileEncoding.PNG, b"")


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Credits]:
    store = await SqliteStore.open(tmp_path / "state.db")
    yield Credits(store, PriceSettings.model_validate({"prices": "default=1+1"}))
    await store.aclose()


def _request(**fields: object) -> Request:
    return Request(Bytes(b"image"), Options(), caller=CALLER, **fields)  # type: ignore[arg-type]


async def _charged(kept: Credits) -> Decimal:
    remaining = await kept.remaining(CALLER)
    assert remaining is not None
    return 10 - remaining


async def _work(kept: Credits, request: Request, ends: BaseException | None) -> None:
    """Half of the output is handed over; then the work ends."""
    handed_over = HandedOver(SIZE, count_file=True)
    async with Charging(kept).tab(request, LAYOUT, "", handed_over) as tab:
        handed_over.took(HALF)
        if ends is not None:
            raise ends
        bill = await tab.pay()
        assert (bill.charged, bill.remaining) == (2, 8)


async def test_work_that_comes_through_is_paid_for(kept: Credits) -> None:
    await _work(kept, _request(), None)


@pytest.mark.parametrize("ends", [asyncio.CancelledError(), GeneratorExit(), DeadlinePassed("late")])
@pytest.mark.parametrize(("streamed", "charged"), [(True, 1), (False, 0)])
async def test_who_leaves_pays_for_what_was_streamed(
    kept: Credits, ends: BaseException, streamed: bool, charged: int
) -> None:
    with pytest.raises(type(ends)):
        await _work(kept, _request(streamed=streamed), ends)
    assert await _charged(kept) == charged


async def test_nobody_pays_for_what_the_server_spoils(kept: Credits) -> None:
    with pytest.raises(WorkerLost):
        await _work(kept, _request(streamed=True), WorkerLost("gone"))
    assert await _charged(kept) == 0


async def test_a_generator_that_is_closed_pays_before_it_is_gone(kept: Credits) -> None:
    async def work() -> AsyncIterator[None]:
        handed_over = HandedOver(SIZE, count_file=True)
        async with Charging(kept).tab(_request(streamed=True), LAYOUT, "", handed_over):
            handed_over.took(HALF)
            yield

    running = work()
    await anext(running)
    await running.aclose()  # type: ignore[attr-defined]
    assert await _charged(kept) == 1


async def test_calls_with_the_same_id_image_and_options_are_one_piece_of_work(kept: Credits) -> None:
    charging = Charging(kept)
    again = _request(request_id="again")
    first = await charging.entry_of(again, SETTLED, b"image")
    labelled = replace(SETTLED, options=replace(SETTLED.options, labels={"order": "7"}))
    assert first.startswith("call-")
    assert await charging.entry_of(again, labelled, bytearray(b"image")) == first
    larger = replace(SETTLED, options=replace(SETTLED.options, scale=3.0))
    others = [
        await charging.entry_of(again, SETTLED, b"another"),
        await charging.entry_of(again, larger, b"image"),
        await charging.entry_of(_request(request_id="another"), SETTLED, b"image"),
    ]
    assert len({first, *others}) == 4


async def test_a_job_goes_by_its_id_and_a_call_without_one_by_none(kept: Credits) -> None:
    charging = Charging(kept)
    job = _request(request_id="again", ledger_id="01KAM8XQ4Z0000000000000000")
    assert await charging.entry_of(job, SETTLED, b"image") == "01KAM8XQ4Z0000000000000000"
    assert await charging.entry_of(_request(), SETTLED, b"image") == ""
    stranger = Request(Bytes(b"image"), Options(), request_id="again")
    assert await charging.entry_of(stranger, SETTLED, b"image") == ""
