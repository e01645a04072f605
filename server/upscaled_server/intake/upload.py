"""An image that arrives in chunks, gathered under a size limit and an idle limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from upscaled_server.errors import DeadlinePassed, InvalidField, LimitExceeded

MAX_CHUNK_BYTES = 1 << 20


async def gather(
    chunks: AsyncIterator[bytes],
    *,
    max_bytes: int,
    idle_seconds: float,
    announced_bytes: int = 0,
) -> bytes:
    """All chunks as one value.

    Raises `LimitExceeded` as soon as the announced or received size passes `max_bytes`, `DeadlinePassed`
    after `idle_seconds` without a chunk, `InvalidField` if the size is not the one announced (0: not
    announced).
    """
    if announced_bytes < 0:
        raise InvalidField("start.size_bytes", "must not be negative", limit=0, actual=announced_bytes)
    if announced_bytes > max_bytes:
        raise _too_large(announced_bytes, max_bytes)
    data = bytearray()
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise DeadlinePassed(
                f"the upload stalled: no chunk for {idle_seconds:g} seconds after {len(data)} bytes",
                received_bytes=len(data),
                upload_idle_seconds=idle_seconds,
            ) from None
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvalidField("chunk", "is too long", limit=MAX_CHUNK_BYTES, actual=len(chunk))
        if len(data) + len(chunk) > max_bytes:
            raise _too_large(len(data) + len(chunk), max_bytes)
        data += chunk
    if announced_bytes and len(data) != announced_bytes:
        raise InvalidField(
            "start.size_bytes", "is not the size that was sent", limit=announced_bytes, actual=len(data)
        )
    return bytes(data)


def _too_large(actual: int, limit: int) -> LimitExceeded:
    return LimitExceeded(
        "source.image", "the encoded image is too large", limit=limit, actual=actual, unit="bytes"
    )
