"""Rows become chunks and tiles in order, with a bound on what waits."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata
from upscaled_server.pipeline import deliver
from upscaled_server.pipeline.chunk_size import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES
from upscaled_server.pipeline.deliver import Delivery
from upscaled_server.pipeline.events import Chunk, Event, Progress, Tile
from upscaled_server.pipeline.request import TileEncoding, TileOptions
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pipeline.tiles import TileCutter, TileGrid, encode_tile

Rows = NDArray[Any]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def _picture(width: int, height: int, planes: int = 3) -> Rows:
    return np.random.default_rng(3).integers(0, 256, (height, width, planes), np.uint8)


def _delivery(picture: Rows, executor: Executor, tiles: TileOptions | None) -> Delivery:
    height, width, planes = picture.shape
    encoder = open_encoder(
        "PNG",
        width=width,
        height=height,
        channels=3,
        has_alpha=planes == 4,
        bits=8,
        options=EncodeOptions(),
        metadata=Metadata(),
        executor=executor,
    )
    cutter = None if tiles is None else TileCutter(width, height, tiles, executor)
    encoding = TileEncoding.PNG if tiles is None else tiles.encoding
    return Delivery(encoder, cutter, encoding, height, StageClock())


async def _events(delivery: Delivery, picture: Rows, strips: list[int]) -> AsyncIterator[Event]:
    for event in delivery.begin():
        yield event
    top = 0
    for strip in strips:
        async for event in delivery.push(picture[top : top + strip]):
            yield event
        top += strip
    async for event in delivery.finish():
        yield event


@pytest.mark.parametrize("strips", [[700], [1] * 50 + [650], [333, 333, 34]])
async def test_chunks_and_tiles_hold_the_picture_however_its_rows_come(
    executor: ThreadPoolExecutor, strips: list[int]
) -> None:
    picture = _picture(900, 700)
    delivery = _delivery(picture, executor, TileOptions(size=256, encoding=TileEncoding.RAW_RGB))
    file, pasted, sequence = bytearray(), np.zeros_like(picture), 0
    async for event in _events(delivery, picture, strips):
        if isinstance(event, Chunk):
            assert event.offset == len(file)
            assert len(event.data) <= MAX_CHUNK_BYTES
            file += event.data
        elif isinstance(event, Tile):
            assert event.sequence == sequence
            sequence += 1
            pixels = np.frombuffer(event.data, np.uint8).reshape(event.height, event.width, 3)
            pasted[event.y : event.y + event.height, event.x : event.x + event.width] = pixels
        elif isinstance(event, Progress):
            last = event
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), picture)
    assert np.array_equal(pasted, picture)
    assert sequence == TileGrid(900, 700, 256).count == 12
    assert (last.fraction, last.rows_done) == (1.0, 700)
    assert (delivery.size_bytes, delivery.sha256) == (len(file), hashlib.sha256(file).hexdigest())


async def test_chunks_grow_for_a_reader_that_keeps_up_and_are_small_for_one_that_does_not(
    executor: ThreadPoolExecutor,
) -> None:
    picture = _picture(2048, 1200)
    sizes: list[int] = []
    async for event in _events(_delivery(picture, executor, None), picture, [1200]):
        if isinstance(event, Chunk):
            sizes.append(len(event.data))
            if len(sizes) >= 7:
                await asyncio.sleep(0.03)
    # The header is a chunk by itself, and so is the rest of each strip.
    assert max(sizes[:7]) > 2 * MIN_CHUNK_BYTES
    assert max(sizes[8:]) == MIN_CHUNK_BYTES
    assert len(sizes) > 12


class _Never(Executor):
    """Takes work and does none of it."""

    def __init__(self) -> None:
        self.taken: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002 - the interface
        self.taken.append(Future())
        return self.taken[-1]


async def test_what_waits_in_the_encoders_is_bounded_and_dropped_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver, "_MAX_PENDING_BYTES", 8 << 20)
    picture, executor = _picture(2048, 8192), _Never()
    with _delivery(picture, executor, None) as delivery:
        # Nothing is ever encoded, so the first event never comes.
        waiting = asyncio.ensure_future(anext(aiter(delivery.push(picture))))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(executor.taken) < 16
    assert all(future.cancelled() for future in executor.taken)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
@pytest.mark.parametrize("encoding", list(TileEncoding))
def test_tiles_of_every_kind_can_be_encoded(planes: int, encoding: TileEncoding) -> None:
    data = encode_tile(_picture(70, 64, planes), TileOptions(64, encoding))
    if encoding is TileEncoding.RAW_RGB:
        assert len(data) == 70 * 64 * 3
    elif encoding is TileEncoding.RAW_RGBA:
        assert len(data) == 70 * 64 * 4
    else:
        picture = Image.open(io.BytesIO(data))
        assert (picture.size, picture.format) == ((70, 64), encoding.value.upper())


def test_sixteen_bit_tiles_are_delivered_with_eight() -> None:
    pixels = np.full((64, 64, 3), 0x8000, np.uint16)
    assert set(encode_tile(pixels, TileOptions(64, TileEncoding.RAW_RGB))) == {128}
