"""Rows as they come, cut into strips of one height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.generic]


class RowCounter:
    """Checks that an image's rows have one shape, and that no more and no fewer come than it has."""

    def __init__(self, width: int, height: int, planes: int, bits: int) -> None:
        self._shape = (width, planes)
        self._dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self._height = height
        self.taken = 0

    @property
    def missing(self) -> int:
        """Rows of the image that have not come yet."""
        return self._height - self.taken

    def take(self, rows: Rows) -> None:
        """Raises ValueError if `rows` cannot be the next rows of the image."""
        if rows.ndim != 3 or rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"expected rows of {self._shape} {self._dtype}, got {rows.shape} {rows.dtype}")
        if len(rows) > self.missing:
            raise ValueError(f"{len(rows)} rows where only {self.missing} are missing")
        self.taken += len(rows)

    def finish(self) -> None:
        """Raises ValueError if rows are missing."""
        if self.missing:
            raise ValueError(f"{self.missing} rows are missing")


class StripCutter(RowCounter):
    """Collects rows until a strip is full. Only the last strip of an image is shorter."""

    def __init__(self, width: int, height: int, planes: int, bits: int, strip_rows: int) -> None:
        super().__init__(width, height, planes, bits)
        self._strip_rows = strip_rows
        self._pending: list[Rows] = []
        self._pending_rows = 0

    def push(self, rows: Rows) -> list[Rows]:
        """The strips that `rows` completes, in order; views of `rows` where one lies wholly within."""
        self.take(rows)
        strips = []
        while len(rows):
            part = rows[: self._strip_rows - self._pending_rows]
            rows = rows[len(part) :]
            self._pending.append(part)
            self._pending_rows += len(part)
            if self._pending_rows == self._strip_rows or (not self.missing and not len(rows)):
                strips.append(self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending))
                self._pending.clear()
                self._pending_rows = 0
        return strips


def to_8_bits(rows: Rows) -> NDArray[np.uint8]:
    """16-bit values to the nearest of 8 bits: round(v / 257)."""
    if rows.dtype == np.uint8:
        return rows.view(np.uint8)
    wide = rows.astype(np.uint32)
    return ((wide * 255 + 32895) >> 16).astype(np.uint8)
