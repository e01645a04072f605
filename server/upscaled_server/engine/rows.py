"""The window of input rows that a run still needs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.errors import ProcessingFailed


class RowWindow:
    """Rows [first, end) of an image of `height` rows, in one contiguous buffer; when it is full, the rows
    that are still wanted move to a new one.

    Thread-safe. Views keep their rows, whatever is appended or dropped meanwhile.
    """

    def __init__(self, width: int, height: int, capacity: int) -> None:
        self._width = width
        self._height = height
        self._capacity = max(1, min(capacity, height))
        self._lock = threading.Lock()
        self._buffer: NDArray[Any] | None = None
        self._buffer_first = 0
        self.first = 0
        self.end = 0

    @property
    def nbytes(self) -> int:
        buffer = self._buffer
        return 0 if buffer is None else buffer.nbytes

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
        with self._lock:
            if self._buffer is not None and rows.dtype != self._buffer.dtype:
                raise ProcessingFailed(f"the rows changed from {self._buffer.dtype} to {rows.dtype}")
            end = self.end + rows.shape[0]
            if end > self._height:
                raise ProcessingFailed(f"{end} rows for an image of {self._height}")
            buffer = self._buffer_up_to(end, rows.dtype)
            buffer[self.end - self._buffer_first : end - self._buffer_first] = rows
            self.end = end

    def view(self, first: int, last: int) -> NDArray[Any]:
        """Rows [first, last), without a copy."""
        with self._lock:
            if self._buffer is None or first < self.first or last > self.end:
                raise ProcessingFailed(
                    f"rows {first} to {last} are not held ({self.first} to {self.end} are)"
                )
            return self._buffer[first - self._buffer_first : last - self._buffer_first]

    def drop_before(self, row: int) -> None:
        """Forget the rows above `row`."""
        with self._lock:
            self.first = max(self.first, min(row, self.end))

    def clear(self) -> None:
        with self._lock:
            self._buffer = None
            self.first = self.end

    def _buffer_up_to(self, end: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """One with the rows that are held and room for those up to `end`."""
        buffer = self._buffer
        if buffer is None or end - self._buffer_first > len(buffer):
            room = max(self._capacity, end - self.first)
            larger = np.empty((room, self._width, 3), dtype)
            if buffer is not None:
                held = buffer[self.first - self._buffer_first : self.end - self._buffer_first]
                larger[: len(held)] = held
            self._buffer, self._buffer_first = larger, self.first
            return larger
        return buffer
