"""A codec host with real processes, and what must be left when it has gone: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.codec import CodecHost, CodecSettings, DecodedImage, DecodeLimits
from upscaled_server.media.info import ImageInfo

Decoded = tuple[ImageInfo, NDArray[np.generic]]


@contextlib.asynccontextmanager
async def decoded(host: CodecHost, data: bytes, limits: DecodeLimits) -> AsyncIterator[DecodedImage]:
    """An image whose pixels are ready on entry."""
    async with host.decode(data, limits) as image:
        await image.ready()
        yield image


async def decode_all(
    host: CodecHost, data: bytes, limits: DecodeLimits | None = None, cut: int = 37
) -> Decoded:
    async with decoded(host, data, limits or DecodeLimits()) as image:
        parts = []
        while (rows := await image.read(cut)) is not None:
            assert 1 <= len(rows) <= cut
            parts.append(rows)
    return image.info, np.concatenate(parts)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


async def read_to_end(image: DecodedImage) -> None:
    while await image.read(500) is not None:
        pass


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[CodecHost]:
    """One host for a module's tests; each test that uses it must leave no decode behind."""
    host = CodecHost(CodecSettings(parallel_decodes=4))
    await host.start()
    yield host
    assert host.open_count == 0
    await host.aclose()


@pytest.fixture
def decode(host: CodecHost) -> Callable[..., Awaitable[Decoded]]:
    async def decode(data: bytes, limits: DecodeLimits | None = None, cut: int = 37) -> Decoded:
        return await decode_all(host, data, limits, cut)

    return decode


@pytest_asyncio.fixture
async def nothing_left() -> Callable[[], Awaitable[None]]:
    """Call when a test has closed its own host. Asynchronous so that the loop's descriptors are counted."""
    descriptors = open_descriptors()
    children = set(children_of(os.getpid()))

    async def check() -> None:
        await eventually(lambda: set(children_of(os.getpid())) <= children)
        await eventually(lambda: open_descriptors() <= descriptors)

    return check
