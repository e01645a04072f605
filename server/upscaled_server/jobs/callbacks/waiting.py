"""Whose turn is next: callers in turn, and of each its receivers in turn, within bounds of tries at once.

A receiver that does not answer holds its own few places only. In memory are as many tries as there are ended
jobs with a receiver still to be told, a few hundred bytes each.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass

from upscaled_server.jobs.callbacks.index import Due


@dataclass(frozen=True, slots=True)
class Bounds:
    """Tries at once."""

    total: int
    per_caller: int
    per_origin: int


class Waiting:
    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._known: set[str] = set()
        self._later: list[tuple[int, str, Due]] = []
        self._ready: dict[str, dict[str, deque[Due]]] = {}
        self._running = 0
        self._of_caller: Counter[str] = Counter()
        self._of_origin: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many there are, running ones included."""
        return len(self._known)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, due: Due, *, at: int | None = None) -> None:
        """One that is here already is not taken twice. `at`: later than it is due."""
        if due.key not in self._known:
            self._known.add(due.key)
            heapq.heappush(self._later, (due.milliseconds if at is None else at, due.key, due))

    def next_milliseconds(self) -> int | None:
        """When the next try becomes due that is not yet."""
        return self._later[0][0] if self._later else None

    def take(self, now: int) -> Due | None:
        """One that is due and may begin. Give it back with `done`."""
        while self._later and self._later[0][0] <= now:
            ready = heapq.heappop(self._later)[2]
            self._ready.setdefault(ready.caller, {}).setdefault(ready.origin, deque()).append(ready)
        if self._running >= self._bounds.total:
            return None
        for caller in self._ready:
            if self._of_caller[caller] < self._bounds.per_caller and (due := self._of(caller)) is not None:
                self._running += 1
                self._of_caller[due.caller] += 1
                self._of_origin[due.origin] += 1
                return due
        return None

    def done(self, due: Due) -> None:
        self._known.discard(due.key)
        self._running -= 1
        for counter, name in ((self._of_caller, due.caller), (self._of_origin, due.origin)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]

    def _of(self, caller: str) -> Due | None:
        """This caller's next; it and the receiver then go to the end of their rows."""
        origins = self._ready[caller]
        for origin, queue in origins.items():
            if self._of_origin[origin] < self._bounds.per_origin:
                due = queue.popleft()
                del origins[origin]
                if queue:
                    origins[origin] = queue
                del self._ready[caller]
                if origins:
                    self._ready[caller] = origins
                return due
        return None
