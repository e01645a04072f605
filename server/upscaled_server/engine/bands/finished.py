"""The finished rows of an image in bands, until a step gives them out."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from upscaled_server.engine.backends.base import Empty


@dataclass(frozen=True, slots=True)
class Room:
    """Rows [start, end) of a block."""

    block: NDArray[np.generic]
    start: int
    end: int

    @property
    def rows(self) -> NDArray[np.generic]:
        return self.block[self.start : self.end]


class FinishedRows:
    """One thread at a time asks for `room`, fills it and `give`s it; another may `take` meanwhile.

    Rows that are given one after the other are nearly always in one block, so that they need not be joined.
    """

    def __init__(
        self, row_shape: tuple[int, int], dtype: DTypeLike, usual_rows: int, empty: Empty = np.empty
    ) -> None:
        """`row_shape`: (columns, planes). `usual_rows`: how many are mostly taken at once, at most."""
        self._row_shape = row_shape
        self._dtype = np.dtype(dtype)
        self._usual_rows = usual_rows
        self._empty = empty
        self._lock = threading.Lock()
        self._block: NDArray[np.generic] | None = None
        self._used = 0
        self._given: list[Room] = []

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(each.rows.nbytes for each in self._given)

    def room(self, count: int) -> Room:
        with self._lock:
            block = self._block
            if block is None or self._used + count > len(block):
                block = self._empty((max(count, self._usual_rows), *self._row_shape), self._dtype)
                self._block, self._used = block, 0
            return Room(block, self._used, self._used + count)

    def give(self, room: Room) -> None:
        with self._lock:
            if room.block is self._block:
                self._used = room.end
            last = self._given[-1] if self._given else None
            if last is not None and last.block is room.block and last.end == room.start:
                self._given[-1] = Room(room.block, last.start, room.end)
            else:
                self._given.append(room)

    def take(self) -> NDArray[np.generic]:
        """All that were given since the last time, (n, columns, planes); they are the caller's."""
        with self._lock:
            given, self._given = self._given, []
            self._block = None
        if len(given) == 1:
            return given[0].rows
        if not given:
            return np.empty((0, *self._row_shape), self._dtype)
        rows = self._empty((sum(each.end - each.start for each in given), *self._row_shape), self._dtype)
        return np.concatenate([each.rows for each in given], out=rows)

    def clear(self) -> None:
        with self._lock:
            self._given.clear()
            self._block = None
