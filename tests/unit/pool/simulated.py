"""Devices that take the time which units say they cost, on a clock that jumps from event to event."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from upscaled_server.pool.scheduler.policy import Grant, Policy, Scheduler, Unit


@dataclass
class Run:
    """An image of `steps` units: the next is submitted when the one before has ended; `at_a_stretch`, in its
    place."""

    name: int
    device: str
    steps: int
    unit_seconds: float
    caller: str = ""
    weight: float = 1.0
    batch: bool = False
    deadline: float = float("inf")
    batch_key: str | None = None
    at_a_stretch: bool = False
    first_number: int = 0
    begun_at: float = 0.0
    ended_at: float = 0.0

    def unit(self) -> Unit:
        return Unit(
            device=self.device,
            cost=self.unit_seconds,
            caller=self.caller,
            weight=self.weight,
            batch=self.batch,
            latest_start=self.deadline - 2 * self.steps * self.unit_seconds,
            batch_key=self.batch_key,
            since=self.first_number,
        )


@dataclass
class Simulation:
    """Checks with every event that no bound is passed and no device idles while work for it waits.

    `noise` makes the real time of a unit out of its estimate.
    """

    devices: int
    policy: Policy = field(default_factory=Policy)
    noise: Callable[[float], float] = lambda seconds: seconds

    def __post_init__(self) -> None:
        self.names = tuple(f"device {number}" for number in range(self.devices))
        self.scheduler = Scheduler(self.names, self.policy)
        self.now = 0.0
        self.log: list[tuple[float, str, int]] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.running: dict[Unit, Run] = {}
        self.finished: list[Run] = []
        self.largest_batch = 0
        self._count = itertools.count()
        self._events: list[tuple[float, int, str, object]] = []
        # What a device was given, in order: it computes one grant after the other.
        self._queues: dict[str, list[Grant]] = {name: [] for name in self.names}

    def arrive(self, run: Run, at: float) -> None:
        heapq.heappush(self._events, (at, next(self._count), "arrive", run))

    def leave(self, run: Run, at: float) -> None:
        heapq.heappush(self._events, (at, next(self._count), "leave", run))

    def run(self, until: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, about = heapq.heappop(self._events)
            getattr(self, f"_{what}")(about)
            for name in self.names:
                self._give(name)

    def _arrive(self, run: Run) -> None:
        run.begun_at = self.now
        self._submit(run)

    def _submit(self, run: Run) -> None:
        unit = run.unit()
        self.running[unit] = run
        self.scheduler.submit(unit, self.now)
        if run.at_a_stretch:
            run.first_number = unit.number

    def _leave(self, run: Run) -> None:
        run.steps = 1  # the one that is computed is the last
        for unit, each in list(self.running.items()):
            if each is run and self.scheduler.cancel(unit):
                del self.running[unit]

    def _wake(self, device: str) -> None:
        """A batch has waited long enough; `_give` follows."""

    def _give(self, name: str) -> None:
        while (grant := self.scheduler.grant(name, self.now)) is not None:
            self.largest_batch = max(self.largest_batch, len(grant.units))
            self.log.extend((self.now, name, self.running[unit].name) for unit in grant.units)
            self._queues[name].append(grant)
            if len(self._queues[name]) == 1:
                self._begin(name)
        assert self.scheduler.granted(name) == len(self._queues[name]) <= self.policy.ahead
        assert self._queues[name] or not self.scheduler.waiting(name), "an idle device with work waiting"
        at = self.scheduler.wake_at(name)
        if at is not None:
            heapq.heappush(self._events, (at, next(self._count), "wake", name))

    def _begin(self, name: str) -> None:
        grant = self._queues[name][0]
        seconds = self.noise(max(unit.cost for unit in grant.units))
        heapq.heappush(self._events, (self.now + seconds, next(self._count), "end", (name, seconds)))

    def _end(self, about: tuple[str, float]) -> None:
        name, seconds = about
        grant = self._queues[name].pop(0)
        for unit in grant.units:
            run = self.running.pop(unit)
            self.seconds[run.caller] += seconds / len(grant.units)
            self.scheduler.finished(unit, seconds / len(grant.units))
            run.steps -= 1
            if run.steps:
                self._submit(run)
            else:
                run.ended_at = self.now
                self.finished.append(run)
        if self._queues[name]:
            self._begin(name)
