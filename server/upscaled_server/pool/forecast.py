"""When work will begin and end, as if nothing more came: devices are taken in turn, and rounds in which
nobody ends are not gone through.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """`seconds` that are still needed of a device, in turns of equal length of at most `step_seconds`."""

    seconds: float
    step_seconds: float

    @property
    def turns(self) -> int:
        return max(1, math.ceil(self.seconds / self.step_seconds)) if self.step_seconds > 0 else 1


@dataclass(frozen=True, slots=True)
class Outlook:
    """Seconds from now until the first turn begins, and until the last one ends."""

    begins_in_seconds: float
    ends_in_seconds: float


def look_out(
    own: Work, at_work: Sequence[Work], queue: Iterable[Work], *, places: int, devices: int
) -> Outlook:
    """`at_work` take turns, in this order. Those of `queue`, of whom `own` is one, join them in its order,
    each as soon as fewer than `places` are at work.
    """
    row, waiting, begins_in = _Row(devices, at_work), deque(queue), 0.0
    while True:
        while waiting and len(row) < max(1, places):
            joining = waiting.popleft()
            if joining is own:
                begins_in = row.now + row.seconds_to_a_turn
            row.join(joining)
        if row.end_one() is own:
            return Outlook(begins_in, row.now)


class _Row:
    """Those at work stand in a row: the first has a turn and goes to the end, until it has had its last."""

    def __init__(self, devices: int, at_work: Sequence[Work]) -> None:
        self.now = 0.0
        self._devices = max(1, devices)
        self._row = deque[tuple[Work, int, float]]()
        for each in at_work:
            self.join(each)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def seconds_to_a_turn(self) -> float:
        """How long somebody who joins now waits for the first turn."""
        return 0.0 if len(self) < self._devices else self._round_seconds / self._devices

    def join(self, work: Work) -> None:
        turns = work.turns
        self._row.append((work, turns, work.seconds / turns))

    def end_one(self) -> Work:
        """Let time pass until somebody has had the last turn. At least one must be there."""
        spare = min(turns for _, turns, _ in self._row) - 1
        at_once = min(self._devices, len(self))
        if spare:  # so many rounds change nothing but the time
            self.now += spare * self._round_seconds / at_once
            self._row = deque((work, turns - spare, seconds) for work, turns, seconds in self._row)
        while True:
            work, turns, seconds = self._row.popleft()
            self.now += seconds / at_once
            if turns == 1:
                return work
            self._row.append((work, turns - 1, seconds))

    @property
    def _round_seconds(self) -> float:
        return sum(seconds for _, _, seconds in self._row)
