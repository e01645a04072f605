"""A day of traffic, replicas and their scaler, on a clock that jumps from event to event."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.autoscaling.replica import Image, Replica
from tests.benchmarks.autoscaling.scaler import Scaler, ScalerSettings
from tests.benchmarks.autoscaling.traffic import HOUR, Day, Mix, Request, requests
from tests.benchmarks.load_traffic import percentile
from upscaled._retry import Retries
from upscaled_server.pool.settings import PoolSettings

BIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`scaler` None: always `replicas` of them. `retries`: what clients do when they are refused."""

    mix: Mix
    day: Day = field(default_factory=Day)
    scaler: ScalerSettings | None = field(default_factory=ScalerSettings)
    replicas: int = 2
    pool: PoolSettings = field(default_factory=PoolSettings)
    max_calls: int = 160
    retries: Retries = field(default_factory=Retries)
    seed: int = 1


@dataclass(slots=True)
class _Bin:
    """What happened within `BIN_SECONDS`. `turned_away`: tries that were refused; `refused`: requests whose
    last try was.
    """

    asked: int = 0
    asked_seconds: float = 0.0
    turned_away: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)
    ready: int = 0
    wanted: int = 0
    queue_seconds: float = 0.0


class Simulation:
    """`run` gives what is to be kept. The same scenario gives the same numbers."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._replicas: list[Replica] = []
        self._turn = 0
        self._chance = random.Random(f"clients {scenario.seed}")
        self._bins: dict[int, _Bin] = {}
        self._batch_waits: list[float] = []
        self._replica_seconds = 0.0
        self._cut_off = 0
        self._seen = (0.0, 0.0)
        self._busy_before = 0.0
        self._busy_of_ended = 0.0

    def run(self, until: float = 24 * HOUR) -> dict[str, Any]:
        return asyncio.run(self._run(until))

    async def _run(self, until: float) -> dict[str, Any]:
        scenario = self._scenario
        for _ in range(scenario.scaler.minimum if scenario.scaler else scenario.replicas):
            self._start(0.0)
        coming = requests(scenario.day, scenario.mix, scenario.seed, until)
        self._expect(coming)
        self._every(scenario.scaler.scrape_seconds if scenario.scaler else 15.0, self._scrape)
        if scenario.scaler:
            scaler = Scaler(scenario.scaler)
            self._every(scenario.scaler.sync_seconds, lambda: self._scale(scaler))
        while self._events and self._events[0][0] < until:
            at, _, act = heapq.heappop(self._events)
            self._replica_seconds += len(self._replicas) * (at - self._now)
            self._now = at
            act()
        self._replica_seconds += len(self._replicas) * (until - self._now)
        return {"summary": self._summary(), "series": self._series(until)}

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), act))

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self._after(seconds, again)

        self._after(seconds, again)

    def _expect(self, coming: Iterator[Request]) -> None:
        request = next(coming, None)
        if request is None:
            return

        def arrives() -> None:
            self._arrive(request)
            self._expect(coming)

        self._after(request.at - self._now, arrives)

    @property
    def _bin(self) -> _Bin:
        return self._bins.setdefault(int(self._now // BIN_SECONDS), _Bin())

    def _arrive(self, request: Request) -> None:
        self._bin.asked += 1
        self._bin.asked_seconds += request.seconds
        self._ask(request, self._scenario.retries.max_retries)

    def _ask(self, request: Request, retries: int) -> None:
        """Clients take the replicas in turn, and come back to the next one when the server says, as the SDK
        does.
        """
        taking = [each for each in self._replicas if each.ready and not each.draining]
        self._turn += 1
        retry_after = taking[self._turn % len(taking)].take(request)
        if not retry_after:
            return
        self._bin.turned_away += 1
        if retries and retry_after <= self._scenario.retries.max_asked_seconds:
            later = retry_after * self._chance.uniform(1.0, 1.1)
            self._after(later, lambda: self._ask(request, retries - 1))
        else:
            self._bin.refused += 1

    def _began(self, image: Image) -> None:
        waits = self._batch_waits if image.request.batch else self._bin.waits
        waits.append(image.began_at - image.request.at)

    def _start(self, seconds: float) -> None:
        replica = Replica(
            next(self._numbers),
            self._scenario.pool,
            self._scenario.max_calls,
            self._scenario.seed,
            clock=lambda: self._now,
            after=self._after,
            began=self._began,
        )
        self._replicas.append(replica)

        def up() -> None:
            replica.ready = True

        if seconds:
            self._after(seconds, up)
        else:
            up()

    def _stop(self, replica: Replica, grace_seconds: float) -> None:
        """Takes no more, and has the grace period to finish. One that is not up yet ends at once."""
        replica.draining = True

        def end() -> None:
            self._cut_off += replica.unfinished
            self._replicas.remove(replica)
            self._busy_of_ended += replica.busy_seconds

        if replica.ready:
            self._after(grace_seconds, end)
        else:
            end()

    def _scrape(self) -> None:
        up = [each for each in self._replicas if each.ready]
        busy = self._busy_of_ended + sum(each.busy_seconds for each in self._replicas)
        scaler = self._scenario.scaler
        interval = scaler.scrape_seconds if scaler else 15.0
        self._seen = (sum(each.queue_device_seconds for each in up), (busy - self._busy_before) / interval)
        self._busy_before = busy
        now = self._bin
        now.ready = max(now.ready, sum(not each.draining for each in up))
        now.queue_seconds = max(now.queue_seconds, self._seen[0])
        now.wanted = max(now.wanted, sum(not each.draining for each in self._replicas))

    def _scale(self, scaler: Scaler) -> None:
        settings = self._scenario.scaler
        assert settings is not None
        there = [each for each in self._replicas if not each.draining]
        wanted = scaler.wanted(self._now, len(there), *self._seen)
        for _ in range(wanted - len(there)):
            self._start(settings.start_seconds)
        # As Kubernetes chooses: those that are not up first, then the youngest.
        for each in sorted(there, key=lambda each: (each.ready, -each.number))[: max(0, len(there) - wanted)]:
            self._stop(each, settings.grace_seconds)

    def _summary(self) -> dict[str, Any]:
        bins = list(self._bins.values())
        waits = [wait for each in bins for wait in each.waits]
        asked, refused = sum(each.asked for each in bins), sum(each.refused for each in bins)
        return {
            "asked": asked,
            "refused": refused,
            "refused_share": round(refused / asked, 5),
            "turned_away": sum(each.turned_away for each in bins),
            "wait_p50_seconds": _rounded(percentile(waits, 0.5)),
            "wait_p95_seconds": _rounded(percentile(waits, 0.95)),
            "wait_p99_seconds": _rounded(percentile(waits, 0.99)),
            "batch_wait_p95_seconds": _rounded(percentile(self._batch_waits, 0.95)),
            "most_replicas": max(each.ready for each in bins),
            "replica_hours": round(self._replica_seconds / HOUR, 2),
            "device_hours_asked": round(sum(each.asked_seconds for each in bins) / HOUR, 2),
            "cut_off": self._cut_off,
        }

    def _series(self, until: float) -> dict[str, list[float | int | None]]:
        bins = [self._bins.get(number, _Bin()) for number in range(math.ceil(until / BIN_SECONDS))]
        return {
            "offered": [round(each.asked_seconds / BIN_SECONDS, 3) for each in bins],
            "asked": [each.asked for each in bins],
            "refused": [each.refused for each in bins],
            "ready": [each.ready for each in bins],
            "wanted": [each.wanted for each in bins],
            "queue_device_seconds": [round(each.queue_seconds, 1) for each in bins],
            "wait_p50_seconds": [_rounded(percentile(each.waits, 0.5)) for each in bins],
            "wait_p95_seconds": [_rounded(percentile(each.waits, 0.95)) for each in bins],
        }


def _rounded(seconds: float) -> float | None:
    """JSON has no "not a number"."""
    return None if math.isnan(seconds) else round(seconds, 3)
