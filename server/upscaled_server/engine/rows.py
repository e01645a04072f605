"""The window of input rows that a run still needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.errors import ProcessingFailed


class RowWindow:
    """Rows [first, end) of an image of `height` rows, in one contiguous buffer that grows only when more is
    fed at once.

    Views of it stay valid until the next `append` or `drop_before`.
    """

    def __init__(self, width: int, height: int, capacity: int) -> None:
        self._width = width
        self._height = height
        self._capacity = max(1, min(capacity, height))
        self._buffer: NDArray[Any] | None = None
        self.first = 0
        self.end = 0

    @property
    def nbytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.nbytes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Raises `ProcessingFailed` before the first rows came."""
        if self._buffer is None:
            raise ProcessingFailed("no rows have been fed yet")
        return self._buffer.dtype

    def append(self, rows: NDArray[Any]) -> None:
        """Copy (n, width, 3) uint8 or uint16 behind the rows that are held. Raises `ProcessingFailed` for
        other shapes."""
        if rows.ndim != 3 or rows.shape[1:] != (self._width, 3) or rows.dtype not in (np.uint8, np.uint16):
            raise ProcessingFailed(
                f"rows of {self._width} RGB pixels are wanted, not {rows.dtype} {rows.shape}"
            )
        if self._buffer is not None and rows.dtype != self._buffer.dtype:
            raise ProcessingFailed(f"the rows changed from {self._buffer.dtype} to {rows.dtype}")
        count = rows.shape[0]
        if self.end + count > self._height:
            raise ProcessingFailed(f"{self.end + count} rows for an image of {self._height}")
        held = self.end - self.first
        if self._buffer is None:
            self._buffer = np.empty((max(self._capacity, count), self._width, 3), rows.dtype)
        elif held + count > self._buffer.shape[0]:
            larger = np.empty((held + count, self._width, 3), rows.dtype)
            larger[:held] = self._buffer[:held]
            self._buffer = larger
        self._buffer[held : held + count] = rows
        self.end += count

    def view(self, first: int, last: int) -> NDArray[Any]:
        """Rows [first, last), without a copy."""
        if self._buffer is None or first < self.first or last > self.end:
            raise ProcessingFailed(f"rows {first} to {last} are not held ({self.first} to {self.end} are)")
        return self._buffer[first - self.first : last - self.first]

    def drop_before(self, row: int) -> None:
        """Forget the rows above `row`."""
        row = min(row, self.end)
        if self._buffer is None or row <= self.first:
            return
        kept = self.end - row
        if kept:
            # NumPy copies overlapping ranges correctly.
            self._buffer[:kept] = self._buffer[row - self.first : self.end - self.first]
        self.first = row

    def clear(self) -> None:
        self._buffer = None
        self.first = self.end
