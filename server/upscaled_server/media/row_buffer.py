"""Rows that wait, given out in any number, in order."""

from __future__ import annotations

from collections import deque

import numpy as np

from upscaled_server.media.planes import Rows


class RowBuffer:
    """A queue of rows (n, width, planes) whose strips may be cut anywhere. Copies only where strips are
    joined."""

    def __init__(self) -> None:
        self._strips: deque[Rows] = deque()
        self.rows = 0

    def append(self, rows: Rows) -> None:
        if rows.shape[0]:
            self._strips.append(rows)
            self.rows += rows.shape[0]

    def take(self, count: int) -> Rows:
        """The next `count` rows, 1 <= count <= `rows`."""
        taken: list[Rows] = []
        self.rows -= count
        while count:
            strip = self._strips.popleft()
            if strip.shape[0] > count:
                self._strips.appendleft(strip[count:])
                strip = strip[:count]
            taken.append(strip)
            count -= strip.shape[0]
        return taken[0] if len(taken) == 1 else np.concatenate(taken)
