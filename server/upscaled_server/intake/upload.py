"""An image that arrives in chunks, gathered under limits of size, pace, and memory of all uploads
together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

from upscaled_server.errors import DeadlinePassed, InvalidField, LimitExceeded, Overloaded

MAX_CHUNK_BYTES = 1 << 20

# From the end of the idle time on, an upload must have come at least this fast on average.
SLOWEST_BYTES_PER_SECOND = 1024

_T = TypeVar("_T")


class UploadMemory:
    """The bytes that all uploads hold together. Refuses beyond its bound rather than waiting: a caller that
    waits with half an image would hold the memory that the others wait for."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def take(self, count: int) -> None:
        """Raises `Overloaded` if there is no room."""
        if self.held_bytes + count > self._max_bytes:
            raise Overloaded(
                "too many uploads at once",
                retry_after_seconds=2.0,
                limit=self._max_bytes,
                actual=self.held_bytes + count,
            )
        self.held_bytes += count

    def give_back(self, count: int) -> None:
        self.held_bytes -= count


async def gather(
    chunks: AsyncIterator[bytes],
    *,
    max_bytes: int,
    idle_seconds: float,
    memory: UploadMemory,
    announced_bytes: int = 0,
) -> bytearray:
    """All chunks as one value. What it holds is counted in `memory` until it returns or fails.

    Raises `LimitExceeded` as soon as the announced or received size passes `max_bytes`, `DeadlinePassed`
    after `idle_seconds` without a chunk or at less than 1 kB/s, `Overloaded` when all uploads together hold
    too much, `InvalidField` if the size is not the one announced (0: not announced) or a chunk is empty or
    too long.
    """
    if announced_bytes < 0:
        raise InvalidField("start.size_bytes", "must not be negative", limit=0, actual=announced_bytes)
    if announced_bytes > max_bytes:
        raise _too_large(announced_bytes, max_bytes)
    data = bytearray()
    pace = Pace(idle_seconds)
    iterator = aiter(chunks)
    try:
        while (chunk := await pace.next_of(iterator)) is not None:
            check_chunk("chunk", chunk)
            if len(data) + len(chunk) > max_bytes:
                raise _too_large(len(data) + len(chunk), max_bytes)
            memory.take(len(chunk))
            data += chunk
            pace.count(len(chunk))
    finally:
        memory.give_back(len(data))
    if announced_bytes and len(data) != announced_bytes:
        raise InvalidField(
            "start.size_bytes", "is not the size that was sent", limit=announced_bytes, actual=len(data)
        )
    return data


class Pace:
    """Gives up an upload that stalls: nothing for `idle_seconds`, or from then on less than 1 kB/s."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._began = time.monotonic()
        self._received = 0

    async def next_of(self, items: AsyncIterator[_T]) -> _T | None:
        """The next item, None at the end. Raises `DeadlinePassed`."""
        try:
            async with asyncio.timeout(self._idle_seconds) as timeout:
                return await anext(items, None)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise self._stalled(f"no chunk for {self._idle_seconds:g} seconds") from None

    def count(self, size: int) -> None:
        """Note the bytes of an item. Raises `DeadlinePassed`."""
        self._received += size
        seconds = time.monotonic() - self._began
        if seconds > self._idle_seconds and self._received < SLOWEST_BYTES_PER_SECOND * seconds:
            raise self._stalled(f"slower than {SLOWEST_BYTES_PER_SECOND} bytes a second")

    def _stalled(self, how: str) -> DeadlinePassed:
        return DeadlinePassed(
            f"the upload stalled: {how}, after {self._received} bytes", received_bytes=self._received
        )


def check_chunk(field: str, chunk: bytes) -> None:
    """Raises `InvalidField` for an empty chunk, or one above 1 MiB."""
    if not 1 <= len(chunk) <= MAX_CHUNK_BYTES:
        raise InvalidField(
            field, "has an unusable length", limit=f"1 to {MAX_CHUNK_BYTES} bytes", actual=len(chunk)
        )


def _too_large(actual: int, limit: int) -> LimitExceeded:
    return LimitExceeded(
        "source.image", "the encoded image is too large", limit=limit, actual=actual, unit="bytes"
    )
