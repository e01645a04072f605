"""The body of an answer, under limits of size, pace and decompression, its beginning checked as it comes."""

from __future__ import annotations

import asyncio
import io
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable

from upscaled_server.errors import FetchFailed, LimitExceeded
from upscaled_server.intake.upload import SLOWEST_BYTES_PER_SECOND, UploadMemory

HEAD_BYTES = 64
_PIECE_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
# Each piece costs the same however small it is, and many of them come out of one read. Nobody who means well
# sends thousands of them.
_FEW_PIECES = 1000
_SMALLEST_PIECE_BYTES = 64


class Limits:
    """Of one body. `idle_seconds`: from then on it must have come at 1 kB/s on average."""

    def __init__(self, field: str, max_bytes: int, idle_seconds: float, memory: UploadMemory) -> None:
        self.field = field
        self.max_bytes = max_bytes
        self.idle_seconds = idle_seconds
        self.memory = memory

    def check_size(self, count: int) -> None:
        """Raises `LimitExceeded`."""
        if count > self.max_bytes:
            raise LimitExceeded(
                self.field, "the file is too large", limit=self.max_bytes, actual=count, unit="bytes"
            )


async def gather(
    pieces: AsyncIterable[bytes], limits: Limits, *, check_head: Callable[[bytes], object]
) -> bytes:
    """All pieces as one value, held in `limits.memory` until it returns or fails.

    Raises `LimitExceeded`, `FetchFailed` for one that comes too slowly, `Overloaded` when all images on their
    way hold too much together, and what `check_head` raises of the first 64 bytes.
    """
    data = io.BytesIO()  # unlike a bytearray it hands out its value without a copy
    held, count, checked = 0, 0, False
    began = time.monotonic()
    try:
        async for piece in pieces:
            limits.check_size(held + len(piece))
            limits.memory.take(len(piece))
            held += len(piece)
            count += 1
            data.write(piece)
            if not checked and held >= HEAD_BYTES:
                check_head(bytes(data.getbuffer()[:HEAD_BYTES]))
                checked = True
            _check_pace(held, time.monotonic() - began, limits)
            if count > _FEW_PIECES and held < count * _SMALLEST_PIECE_BYTES:
                raise FetchFailed(
                    f"{limits.field}: the origin sends in crumbs",
                    limit=_SMALLEST_PIECE_BYTES,
                    actual=held // count,
                    unit="bytes",
                )
        if not checked:
            check_head(data.getvalue())
        return data.getvalue()
    finally:
        limits.memory.give_back(held)


async def inflated(pieces: AsyncIterable[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    """What gzip packed, in pieces of at most 256 KiB, so that whoever takes them can stop a bomb early."""
    inflater = zlib.decompressobj(_GZIP)
    packed = 0
    try:
        async for piece in pieces:
            packed += len(piece)
            limits.check_size(packed)
            while piece:
                out = inflater.decompress(piece, _PIECE_BYTES)
                if inflater.unused_data:
                    raise zlib.error("more after the end")
                if out:
                    yield out
                piece = inflater.unconsumed_tail
                await asyncio.sleep(0)  # a full piece unpacks to many; others have their turn between
        while out := inflater.decompress(b"", _PIECE_BYTES):
            yield out
        if not inflater.eof:
            raise zlib.error("no end")
    except zlib.error:
        raise FetchFailed(f"{limits.field}: the origin sent damaged gzip, which was not asked for") from None


def _check_pace(received: int, seconds: float, limits: Limits) -> None:
    if seconds > limits.idle_seconds and received < SLOWEST_BYTES_PER_SECOND * seconds:
        raise FetchFailed(
            f"{limits.field}: the origin sends slower than {SLOWEST_BYTES_PER_SECOND} bytes a second",
            limit=SLOWEST_BYTES_PER_SECOND,
            actual=round(received / seconds),
            unit="bytes/s",
        )
