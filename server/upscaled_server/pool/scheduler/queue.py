"""What waits, in the order of its turns: interactive before batch, callers by their shares, and of one caller
whoever would be late otherwise, else whoever came first. Every operation costs O(log n).
"""

from __future__ import annotations

import itertools
from heapq import heappop, heappush, heapreplace
from typing import Generic, TypeVar

from upscaled_server.pool.scheduler.entry import Entry
from upscaled_server.pool.scheduler.flow import Flow
from upscaled_server.pool.scheduler.pile import Pile
from upscaled_server.pool.scheduler.shares import Shares

E = TypeVar("E", bound=Entry)

_INTERACTIVE, _BATCH = 0, 1


class FairQueue(Generic[E]):
    """`shares` may be common to several queues. A batch entry that has waited for `aging_seconds` is treated
    as an interactive one of its caller.
    """

    def __init__(self, shares: Shares, aging_seconds: float) -> None:
        self._shares = shares
        self._aging_seconds = aging_seconds
        self._numbers = itertools.count(1)
        self._ties = itertools.count()
        # By class: flows by caller, and those that wait by when their next turn is due on the common clock.
        self._flows: tuple[dict[str, Flow[E]], ...] = ({}, {})
        self._due: tuple[list[tuple[float, int, Flow[E]]], ...] = ([], [])
        self._live = [0, 0]
        self._aging: Pile[E] = Pile(_waits_in_batch)

    def __len__(self) -> int:
        return sum(self._live)

    @property
    def interactive(self) -> int:
        """How many entries go before all batch ones."""
        return self._live[_INTERACTIVE]

    def push(self, entry: E, now: float) -> None:
        """Join the queue."""
        entry.number = entry.since or next(self._numbers)
        entry.queued_at = now
        entry.floor = self._shares.now
        self._insert(entry, _BATCH if entry.batch else _INTERACTIVE)

    def put_back(self, entry: E) -> None:
        """Undo `pop`: the entry stands where it stood."""
        self._insert(entry, _BATCH if entry.batch else _INTERACTIVE)

    def remove(self, entry: E) -> bool:
        """Leave the queue; false if it is not there."""
        flow = entry.flow
        if flow is None:
            return False
        flow.remove(entry)
        self._live[flow.level] -= 1
        self._aging.tidy(self._live[_BATCH])
        return True

    def pop(self, now: float, *, interactive_only: bool = False) -> E | None:
        """Take out whoever is next. It is not charged for its turn: `charge` does that."""
        self._promote(now)
        entry = self._pop(_INTERACTIVE, now)
        if entry is None and not interactive_only:
            entry = self._pop(_BATCH, now)
        return entry

    def charge(self, entry: E) -> None:
        """An entry that was taken out has its turn."""
        self._shares.charge(entry, entry.floor)

    def _insert(self, entry: E, level: int) -> None:
        flow = self._flows[level].get(entry.caller)
        if flow is None:
            flow = self._flows[level][entry.caller] = Flow(entry.caller, level)
        if not flow.live:
            flow.floor = entry.floor
        flow.add(entry)
        self._live[level] += 1
        if not flow.queued:
            flow.queued = True
            heappush(self._due[level], (self._due_at(flow), next(self._ties), flow))
        if level == _BATCH:
            self._aging.push(entry.queued_at + self._aging_seconds, entry)

    def _due_at(self, flow: Flow[E]) -> float:
        return self._shares.start(flow.caller, flow.floor)

    def _pop(self, level: int, now: float) -> E | None:
        due = self._due[level]
        while due:
            at, _, flow = due[0]
            if not flow.live:
                heappop(due)
                flow.queued = False
                del self._flows[level][flow.caller]
                continue
            truly_at = self._due_at(flow)
            if truly_at > at:  # it has had turns since
                heapreplace(due, (truly_at, next(self._ties), flow))
                continue
            self._live[level] -= 1
            return flow.take(now)
        return None

    def _promote(self, now: float) -> None:
        """Treat batch entries that have waited long as interactive ones."""
        while (oldest := self._aging.top()) is not None and oldest[0] <= now:
            entry = oldest[1]
            self.remove(entry)
            self._insert(entry, _INTERACTIVE)


def _waits_in_batch(entry: Entry) -> bool:
    return entry.flow is not None and entry.flow.level == _BATCH
