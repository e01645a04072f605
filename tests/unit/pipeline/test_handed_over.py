"""What has been handed over is counted by what was taken, never more than that."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata
from upscaled_server.media.size import OutputSize
from upscaled_server.pipeline.deliver import Delivery
from upscaled_server.pipeline.events import Chunk, Event, Tile
from upscaled_server.pipeline.handed_over import HandedOver
from upscaled_server.pipeline.request import TileEncoding, TileOptions
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pipeline.tiles import TileCutter

WIDTH, HEIGHT = 1500, 2000
PICTURE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def _counting(*, count_file: bool = True) -> HandedOver:
    return HandedOver(OutputSize(WIDTH, HEIGHT, (0, 0, WIDTH, HEIGHT)), count_file=count_file)


def _delivery(
    handed_over: HandedOver, executor: ThreadPoolExecutor, format: str, tiles: TileOptions | None
) -> Delivery:
    encoder = open_encoder(
        format,
        width=WIDTH,
        height=HEIGHT,
        channels=3,
        has_alpha=False,
        bits=8,
        options=EncodeOptions(),
        metadata=Metadata(),
        executor=executor,
    )
    cutter = None if tiles is None else TileCutter(WIDTH, HEIGHT, tiles, executor)
    return Delivery(handed_over.watched(encoder), cutter, TileEncoding.RAW_RGB, HEIGHT, StageClock())


async def _events(delivery: Delivery, picture: NDArray[Any]) -> AsyncIterator[Event]:
    with delivery:
        for event in delivery.begin():
            yield event
        for top in range(0, HEIGHT, 100):
            async for event in delivery.push(picture[top : top + 100]):
                yield event
        async for event in delivery.finish():
            yield event


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
async def test_rows_of_a_file_count_as_their_bytes_go_out(executor: ThreadPoolExecutor, format: str) -> None:
    handed_over = _counting()
    delivery = _delivery(handed_over, executor, format, None)
    counted, sizes = [0], [0]
    async for event in _events(delivery, PICTURE):
        handed_over.took(event)
        if isinstance(event, Chunk):
            counted.append(handed_over.pixels)
            sizes.append(sizes[-1] + len(event.data))
    assert counted == sorted(counted)
    assert handed_over.pixels == WIDTH * HEIGHT
    # Noise is as large everywhere, so the share of the bytes is the share of the rows, but for what an
    # encoder keeps back.
    for pixels, size in zip(counted, sizes, strict=True):
        share = size / sizes[-1]
        assert share - 0.25 <= pixels / (WIDTH * HEIGHT) <= share + 0.02
    assert 0 < counted[len(counted) // 2] < WIDTH * HEIGHT


async def test_a_file_that_is_encoded_at_the_end_counts_when_all_of_it_is_there(
    executor: ThreadPoolExecutor,
) -> None:
    handed_over = _counting()
    picture = np.full_like(PICTURE, 7)
    async for event in _events(_delivery(handed_over, executor, "WEBP", None), picture):
        assert handed_over.pixels == 0 or not isinstance(event, Chunk)
        handed_over.took(event)
    assert handed_over.pixels == WIDTH * HEIGHT


async def test_pieces_that_are_given_up_do_not_count(executor: ThreadPoolExecutor) -> None:
    handed_over, held = _counting(), threading.Event()
    for _ in range(2):
        executor.submit(held.wait)
    try:
        with _delivery(handed_over, executor, "PNG", None) as delivery:
            for event in delivery.begin():
                handed_over.took(event)
            async for event in delivery.push(PICTURE):
                handed_over.took(event)
        assert handed_over.pixels == 0
    finally:
        held.set()


async def test_tiles_count_by_their_area(executor: ThreadPoolExecutor) -> None:
    handed_over, area = _counting(count_file=False), 0
    options = TileOptions(size=256, encoding=TileEncoding.RAW_RGB)
    async for event in _events(_delivery(handed_over, executor, "PNG", options), PICTURE):
        handed_over.took(event)
        if isinstance(event, Tile):
            area += event.width * event.height
        assert handed_over.pixels == area
    assert area == WIDTH * HEIGHT
