"""Rows as they come, cut into strips of one height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.generic]

_PARTS_OF_THE_REST = 4


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
    """Collects rows until a strip is full: one of `strip_rows`, or of what is left of the image if that is
    less. With `last_rows` strips get lower towards the end of the image, down to that, so that when its last
    rows come little is left to be encoded, by more than one core.
    """

    def __init__(
        self,
        width: int,
        height: int,
        planes: int,
        bits: int,
        strip_rows: int,
        *,
        last_rows: int | None = None,
    ) -> None:
        super().__init__(width, height, planes, bits)
        self._most_rows = strip_rows
        self._last_rows = strip_rows if last_rows is None else min(last_rows, strip_rows)
        self._strip_rows = self._next_rows()
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
                self._strip_rows = self._next_rows(len(rows))
        return strips

    def _next_rows(self, taken: int = 0) -> int:
        """Of the strip that begins now, with so many rows taken that are not in a strip yet."""
        return min(self._most_rows, max(self._last_rows, (self.missing + taken) // _PARTS_OF_THE_REST))


def to_8_bits(rows: Rows) -> NDArray[np.uint8]:
    """16-bit values to the nearest of 8 bits: round(v / 257)."""
    if rows.dtype == np.uint8:
        return rows.view(np.uint8)
    wide = rows.astype(np.uint32)
    return ((wide * 255 + 32895) >> 16).astype(np.uint8)
