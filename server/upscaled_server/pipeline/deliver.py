"""From rows of the output to what the caller receives: tiles, chunks of the file, progress."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future

from upscaled_server.media.encode import Encoder
from upscaled_server.media.planes import Rows
from upscaled_server.pipeline.chunk_size import ChunkSize
from upscaled_server.pipeline.events import Chunk, Event, Progress, Stage, Tile
from upscaled_server.pipeline.request import TileEncoding
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pipeline.tiles import PendingTile, TileCutter

# Raw pixels that may be in the encoders at once for one image. With the caller not reading, this is all
# that is held here.
_MAX_PENDING_BYTES = 64 << 20

# Rows handed over at once: copying these takes a millisecond or two, after which other calls have a turn.
_HAND_OVER_BYTES = 4 << 20

# What a piece of a file holds while it is being encoded, see `Encoder`.
_STRIP_BYTES = 1 << 20

_PROGRESS_INTERVAL_SECONDS = 0.25


class Delivery:
    """Encodes rows in an executor and gives out events in the order of the file, as they become ready."""

    def __init__(
        self,
        encoder: Encoder | None,
        cutter: TileCutter | None,
        tile_encoding: TileEncoding,
        rows_total: int,
        clock: StageClock,
    ) -> None:
        self._encoder = encoder
        self._cutter = cutter
        self._tile_encoding = tile_encoding
        self._rows_total = rows_total
        self._rows_done = 0
        self._clock = clock
        self._began = time.monotonic()
        self._last_progress = 0.0
        self._pending: deque[Future[bytes] | PendingTile] = deque()
        self._pending_bytes = 0
        self._tiles_sent = 0
        self._hash = hashlib.sha256()
        self._chunk_size = ChunkSize()
        self.size_bytes = 0

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is still queued, so that a call that is over costs nothing more."""
        for pending in self._pending:
            (pending.data if isinstance(pending, PendingTile) else pending).cancel()

    @property
    def sha256(self) -> str:
        """Of the bytes sent so far, hexadecimal."""
        return self._hash.hexdigest()

    def begin(self) -> Iterator[Event]:
        """The file's header, which does not depend on the pixels."""
        if self._encoder is not None:
            yield from self._chunks(self._encoder.begin())

    async def push(self, rows: Rows) -> AsyncIterator[Event]:
        """Hand rows to the encoders and give what is ready meanwhile."""
        step = max(1, _HAND_OVER_BYTES // rows[0].nbytes)
        for top in range(0, rows.shape[0], step):
            self._hand_over(rows[top : top + step])
            async for event in self._ready(keep_bytes=_MAX_PENDING_BYTES):
                yield event
        self._rows_done += rows.shape[0]
        if (progress := self._progress()) is not None:
            yield progress

    def _hand_over(self, rows: Rows) -> None:
        if self._cutter is not None:
            self._extend(self._cutter.push(rows))
        if self._encoder is not None:
            self._extend(self._encoder.write(rows))

    def _extend(self, pieces: Iterable[Future[bytes] | PendingTile]) -> None:
        for piece in pieces:
            self._pending.append(piece)
            self._pending_bytes += _held_bytes(piece)

    async def finish(self) -> AsyncIterator[Event]:
        """Everything that is left."""
        if self._encoder is not None:
            # The end of a file holds checksums of all strips, so they come first.
            async for event in self._ready(keep_bytes=0):
                yield event
            self._extend(self._encoder.finish())
        async for event in self._ready(keep_bytes=0):
            yield event
        yield Progress(Stage.ENCODE, 1.0, self._rows_done, self._rows_total, 0.0)

    async def _ready(self, *, keep_bytes: int) -> AsyncIterator[Event]:
        """Give finished pieces from the front; wait only while more than `keep_bytes` are pending."""
        while self._pending:
            front = self._pending[0]
            future = front.data if isinstance(front, PendingTile) else front
            if not future.done() and self._pending_bytes <= keep_bytes:
                return
            with self._clock.during(Stage.ENCODE):
                data = await asyncio.wrap_future(future)
            self._pending.popleft()
            self._pending_bytes -= _held_bytes(front)
            if isinstance(front, PendingTile):
                yield self._tile(front, data)
            else:
                for chunk in self._chunks(data):
                    yield chunk

    def _tile(self, tile: PendingTile, data: bytes) -> Tile:
        sequence, self._tiles_sent = self._tiles_sent, self._tiles_sent + 1
        return Tile(sequence, tile.x, tile.y, tile.width, tile.height, self._tile_encoding, data)

    def _chunks(self, data: bytes) -> Iterator[Chunk]:
        start = 0
        while start < len(data):
            piece = data[start : start + self._chunk_size.bytes]
            self._hash.update(piece)
            given = time.monotonic()
            yield Chunk(self.size_bytes, piece)
            self._chunk_size.taken_after(time.monotonic() - given)
            self.size_bytes += len(piece)
            start += len(piece)

    def _progress(self) -> Progress | None:
        now = time.monotonic()
        if now - self._last_progress < _PROGRESS_INTERVAL_SECONDS:
            return None
        self._last_progress = now
        fraction = self._rows_done / self._rows_total
        remaining = (now - self._began) * (1 - fraction) / fraction if fraction else None
        return Progress(Stage.INFER, fraction, self._rows_done, self._rows_total, remaining)


def _held_bytes(piece: Future[bytes] | PendingTile) -> int:
    return piece.held_bytes if isinstance(piece, PendingTile) else _STRIP_BYTES
