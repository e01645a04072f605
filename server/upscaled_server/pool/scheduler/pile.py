"""A heap whose members may become worthless where they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

_MAX_STALE = 32
_ties = itertools.count()


class Pile(Generic[T]):
    """The smallest first. What `is_live` denies is thrown away when it comes to the top, or when it is the
    majority; what was put in twice comes out once, if taking it out makes it worthless.
    """

    __slots__ = ("_heap", "_is_live")

    def __init__(self, is_live: Callable[[T], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, T]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, key: float, member: T) -> None:
        heappush(self._heap, (key, next(_ties), member))

    def top(self) -> tuple[float, T] | None:
        """The smallest one that is live, which stays."""
        heap = self._heap
        while heap:
            key, _, member = heap[0]
            if self._is_live(member):
                return key, member
            heappop(heap)
        return None

    def tidy(self, live: int) -> None:
        """To be called when something became worthless; `live` is how many are not."""
        if len(self._heap) > 2 * live + _MAX_STALE:
            found: dict[int, tuple[float, int, T]] = {
                id(each[-1]): each for each in self._heap if self._is_live(each[-1])
            }
            self._heap = list(found.values())
            heapify(self._heap)
