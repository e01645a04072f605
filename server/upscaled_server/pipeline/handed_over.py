"""How much of the output has been handed over, for work that is cut off in the middle."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.encode import Encoder
from upscaled_server.media.size import OutputSize
from upscaled_server.pipeline.events import Chunk, Event, Tile


class HandedOver:
    """Counts output pixels from the events that were taken: those of tiles, or the rows whose bytes of the
    file have gone out, whichever are more. `count_file`: whether chunks go to who asked at all."""

    def __init__(self, size: OutputSize, *, count_file: bool) -> None:
        self._size = size
        self._count_file = count_file
        self._pieces: deque[tuple[Future[bytes], int]] = deque()
        self._before_bytes = 0
        self._file_bytes = 0
        self._file_rows = 0
        self._tile_pixels = 0

    @property
    def pixels(self) -> int:
        self._pass_pieces()
        return max(self._tile_pixels, self._file_rows * self._size.width)

    def watched(self, encoder: Encoder) -> Encoder:
        """The encoder, telling here which piece of the file holds which rows."""
        return _Watched(encoder, self._pieces, self._size.height) if self._count_file else encoder

    def took(self, event: Event) -> None:
        """The receiver asks for more: it has this one."""
        if isinstance(event, Tile):
            self._tile_pixels += event.width * event.height
        elif isinstance(event, Chunk) and self._count_file:
            self._file_bytes += len(event.data)
            self._pass_pieces()  # which lets go of their bytes

    def _pass_pieces(self) -> None:
        while self._pieces:
            future, rows = self._pieces[0]
            if not future.done() or future.cancelled() or future.exception() is not None:
                return
            size = len(future.result())
            if self._before_bytes + size > self._file_bytes:
                return
            self._before_bytes += size
            self._file_rows = max(self._file_rows, rows)
            self._pieces.popleft()


class _Watched:
    """An encoder that notes which row every piece of the file begins with, so that rows count when the piece
    behind them has gone out too: what an encoder keeps back of a strip is not counted."""

    def __init__(self, encoder: Encoder, pieces: deque[tuple[Future[bytes], int]], height: int) -> None:
        self._encoder = encoder
        self._pieces = pieces
        self._height = height
        self._rows = 0
        self.content_type = encoder.content_type
        self.extension = encoder.extension

    def begin(self) -> bytes:
        header = self._encoder.begin()
        self._pieces.append((_ready(header), 0))
        return header

    def write(self, rows: NDArray[np.generic]) -> list[Future[bytes]]:
        futures = self._encoder.write(rows)
        for number, future in enumerate(futures):
            self._pieces.append((future, self._rows + rows.shape[0] * number // len(futures)))
        self._rows += rows.shape[0]
        return futures

    def finish(self) -> list[Future[bytes]]:
        futures = self._encoder.finish()
        self._pieces.extend((future, 0) for future in futures)
        self._pieces.append((_ready(b""), self._height))
        return futures


def _ready(data: bytes) -> Future[bytes]:
    future: Future[bytes] = Future()
    future.set_result(data)
    return future
