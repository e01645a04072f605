"""The entries of one caller in one class."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from upscaled_server.pool.scheduler.entry import Entry
from upscaled_server.pool.scheduler.pile import Pile

E = TypeVar("E", bound=Entry)


class Flow(Generic[E]):
    """First come, first served, except for those that would be late: they go first, the most pressed of them
    first. So an image of many steps does not hold up a later one by being due earlier.

    `floor` is the common clock's time when the caller began to wait.
    """

    __slots__ = ("_by_arrival", "_by_latest_start", "caller", "floor", "level", "live", "queued")

    def __init__(self, caller: str, level: int) -> None:
        self.caller = caller
        self.level = level
        self.floor = 0.0
        self.live = 0
        self.queued = False
        """Whether it stands in the heap of its class."""
        self._by_arrival: Pile[E] = Pile(self._has)
        self._by_latest_start: Pile[E] = Pile(self._has)

    def add(self, entry: E) -> None:
        entry.flow = self
        self.live += 1
        self._by_arrival.push(entry.number, entry)
        if entry.latest_start < math.inf:
            self._by_latest_start.push(entry.latest_start, entry)
        self._tidy()

    def remove(self, entry: E) -> None:
        entry.flow = None
        self.live -= 1
        self._tidy()

    def take(self, now: float) -> E | None:
        """The next entry."""
        pressed = self._by_latest_start.top()
        found = pressed if pressed is not None and pressed[0] <= now else self._by_arrival.top()
        if found is None:
            return None
        entry = found[1]
        entry.floor = self.floor
        self.remove(entry)
        return entry

    def _has(self, entry: E) -> bool:
        return entry.flow is self

    def _tidy(self) -> None:
        self._by_arrival.tidy(self.live)
        self._by_latest_start.tidy(self.live)
