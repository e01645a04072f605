"""What encoders share whose format cannot be written while rows arrive: the image is kept until the last."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.encode.strips import RowCounter, Rows, to_8_bits


class BufferedEncoder:
    """Holds width * height * planes bytes. Subclasses say how the whole becomes a file, in `_encode`."""

    def __init__(
        self, width: int, height: int, in_planes: int, bits: int, planes: int, executor: Executor
    ) -> None:
        self._executor = executor
        self._counter = RowCounter(width, height, in_planes, bits)
        self._pixels = np.empty((height, width, planes), np.uint8)

    def begin(self) -> bytes:
        return b""

    def write(self, rows: Rows) -> list[Future[bytes]]:
        top = self._counter.taken
        self._counter.take(rows)
        self._pixels[top : top + len(rows)] = self._laid_out(to_8_bits(rows))
        return []

    def finish(self) -> list[Future[bytes]]:
        self._counter.finish()
        return [self._executor.submit(self._encode)]

    def _laid_out(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rows of 8 bits with the planes that are kept."""
        return rows

    def _encode(self) -> bytes:
        raise NotImplementedError
