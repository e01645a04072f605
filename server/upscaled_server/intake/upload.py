"""An image that arrives in chunks, gathered under limits of size, pace, and memory of all uploads
together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from upscaled_server.errors import DeadlinePassed, InvalidField, LimitExceeded, Overloaded

MAX_CHUNK_BYTES = 1 << 20

# From the end of the idle time on, an upload must have come at least this fast on average.
SLOWEST_BYTES_PER_SECOND = 1024


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
    began = time.monotonic()
    iterator = aiter(chunks)
    try:
        while (chunk := await _next(iterator, idle_seconds, len(data))) is not None:
            if not 1 <= len(chunk) <= MAX_CHUNK_BYTES:
                raise InvalidField(
                    "chunk",
                    "has an unusable length",
                    limit=f"1 to {MAX_CHUNK_BYTES} bytes",
                    actual=len(chunk),
                )
            if len(data) + len(chunk) > max_bytes:
                raise _too_large(len(data) + len(chunk), max_bytes)
            memory.take(len(chunk))
            data += chunk
            _check_pace(len(data), time.monotonic() - began, idle_seconds)
    finally:
        memory.give_back(len(data))
    if announced_bytes and len(data) != announced_bytes:
        raise InvalidField(
            "start.size_bytes", "is not the size that was sent", limit=announced_bytes, actual=len(data)
        )
    return data


async def _next(chunks: AsyncIterator[bytes], idle_seconds: float, received: int) -> bytes | None:
    """The next chunk, or None at the end."""
    try:
        async with asyncio.timeout(idle_seconds) as timeout:
            return await anext(chunks, None)
    except TimeoutError:
        if not timeout.expired():
            raise
        raise _stalled(f"no chunk for {idle_seconds:g} seconds", received) from None


def _check_pace(received: int, seconds: float, idle_seconds: float) -> None:
    if seconds > idle_seconds and received < SLOWEST_BYTES_PER_SECOND * seconds:
        raise _stalled(f"slower than {SLOWEST_BYTES_PER_SECOND} bytes a second", received)


def _stalled(how: str, received: int) -> DeadlinePassed:
    return DeadlinePassed(f"the upload stalled: {how}, after {received} bytes", received_bytes=received)


def _too_large(actual: int, limit: int) -> LimitExceeded:
    return LimitExceeded(
        "source.image", "the encoded image is too large", limit=limit, actual=actual, unit="bytes"
    )
