"""Keeps the rows of images that go side by side together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from upscaled_server.media.planes import Rows

# Rows of each image that goes through the network: colour, and alpha where it does too.
Strips = tuple[Rows, ...]


class Abreast:
    """Takes what each of `count` images has finished, in whatever portions, and gives as many rows of every
    one.
    """

    def __init__(self, count: int) -> None:
        self._waiting: tuple[deque[Rows], ...] = tuple(deque() for _ in range(count))

    def push(self, number: int, rows: Rows) -> None:
        """The next rows of one image, (n, width, channels)."""
        if rows.shape[0]:
            self._waiting[number].append(rows)

    def pop(self) -> Strips | None:
        """What all of them have; None as long as one has nothing."""
        common = min(sum(rows.shape[0] for rows in waiting) for waiting in self._waiting)
        return tuple(_take(waiting, common) for waiting in self._waiting) if common else None


def _take(waiting: deque[Rows], count: int) -> Rows:
    taken: Sequence[Rows] = []
    while count:
        head = waiting.popleft()
        if head.shape[0] > count:
            waiting.appendleft(head[count:])
            head = head[:count]
        taken = [*taken, head]
        count -= head.shape[0]
    return taken[0] if len(taken) == 1 else np.concatenate(taken)
