"""The simulated day of docs/capacity.md: its parts, and that what is published is what they give."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.benchmarks.autoscaling.replica import Image, Replica
from tests.benchmarks.autoscaling.scaler import Scaler, ScalerSettings
from tests.benchmarks.autoscaling.scenarios import MAIN, TUNED, scenarios
from tests.benchmarks.autoscaling.simulate import BIN_SECONDS, Simulation
from tests.benchmarks.autoscaling.traffic import HOUR, Burst, Day, Mix, Request, requests
from tests.conftest import REPO

from upscaled_server.pool.settings import PoolSettings

PUBLISHED = json.loads((REPO / "docs" / "benchmarks" / "autoscaling.json").read_text())


class Clock:
    """Jumps from event to event."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), act))

    def run(self) -> None:
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()


def _replica(clock: Clock, began: list[Image], **settings: Any) -> Replica:
    pool = PoolSettings.model_construct(**settings)
    replica = Replica(1, pool, 160, 1, lambda: clock.now, clock.after, began.append)
    replica.ready = True
    return replica


def _request(seconds: float, batch: bool = False, caller: str = "a") -> Request:
    return Request(0.0, seconds, caller, batch)


async def test_a_replica_does_all_the_work_that_it_took_and_no_more() -> None:
    clock, began = Clock(), list[Image]()
    replica = _replica(clock, began)
    sizes = [0.4, 3.0, 0.1, 12.0]

    assert all(replica.take(_request(seconds)) == 0.0 for seconds in sizes)
    assert replica.queue_device_seconds == pytest.approx(sum(sizes))
    clock.run()

    assert replica.unfinished == 0
    assert len(began) == len(sizes)
    assert replica.busy_seconds == pytest.approx(sum(sizes), rel=0.1)
    assert clock.now == pytest.approx(replica.busy_seconds), "the device was never idle with work there"


async def test_a_replica_refuses_as_the_server_does() -> None:
    clock = Clock()
    replica = _replica(clock, [], max_open_runs=2, max_waiting_runs=3)
    taken = [replica.take(_request(1.0)) == 0.0 for _ in range(8)]
    assert taken == [True] * 5 + [False] * 3

    short = _replica(clock, [], max_pending_seconds=5.0)
    assert [short.take(_request(3.0)) for _ in range(2)] == [0.0, 0.0]
    assert short.take(_request(3.0)) >= 1.0  # 6 s would be done before it
    clock.run()


async def test_interactive_images_begin_before_batch_images_that_came_first() -> None:
    clock, began = Clock(), list[Image]()
    replica = _replica(clock, began)
    for _ in range(3):
        replica.take(_request(10.0, batch=True))
    replica.take(_request(0.5))
    clock.run()
    order = [image.request.batch for image in began]
    assert order.index(False) <= 1  # of batch work one unit has been given to the device


def _settings(**changes: Any) -> ScalerSettings:
    return ScalerSettings(**{"minimum": 1, "maximum": 50, "queue_target": 10.0, **changes})


def test_the_scaler_wants_the_target_within_its_tolerance_and_bounds() -> None:
    assert Scaler(_settings()).wanted(0, 4, 43.0, 0) == 4  # within 10% of the target
    assert Scaler(_settings()).wanted(0, 4, 61.0, 0) == 7
    assert Scaler(_settings(maximum=5)).wanted(0, 4, 61.0, 0) == 5
    assert Scaler(_settings(minimum=3)).wanted(0, 3, 0.0, 0) == 3
    assert Scaler(_settings(busy_target=0.5)).wanted(0, 4, 0.0, 3.5) == 7  # the higher of two answers


def test_the_scaler_at_most_doubles_or_adds_four_within_its_period() -> None:
    scaler = Scaler(_settings())
    assert scaler.wanted(0, 2, 1000.0, 0) == 6
    assert scaler.wanted(15, 6, 1000.0, 0) == 6
    assert scaler.wanted(60, 6, 1000.0, 0) == 12
    assert scaler.wanted(75, 12, 1000.0, 0) == 12


def test_the_scaler_takes_away_one_at_a_time_after_a_calm() -> None:
    scaler = Scaler(_settings(calm_seconds=300.0, down_period_seconds=60.0))
    assert scaler.wanted(0, 5, 50.0, 0) == 5
    assert [scaler.wanted(at, 5, 0.0, 0) for at in (15, 150, 299)] == [5, 5, 5]
    assert scaler.wanted(300, 5, 0.0, 0) == 4
    assert scaler.wanted(315, 4, 0.0, 0) == 4
    assert scaler.wanted(360, 4, 0.0, 0) == 3


def test_requests_ask_for_what_the_day_says_and_ten_times_as_much_in_a_burst() -> None:
    day, mix = Day(lowest=1.0, highest=1.0, bursts=(Burst(HOUR, 600.0),)), Mix(0.2)
    found = list(requests(day, mix, seed=3, until=2 * HOUR))
    before = sum(each.seconds for each in found if each.at < HOUR) / HOUR
    burst = sum(each.seconds for each in found if HOUR <= each.at < HOUR + 600) / 600
    assert before == pytest.approx(1.0, rel=0.15)
    assert burst == pytest.approx(10.0, rel=0.15)
    assert found == list(requests(day, mix, seed=3, until=2 * HOUR))
    assert found != list(requests(day, mix, seed=4, until=2 * HOUR))


@pytest.mark.parametrize("name", [MAIN, TUNED])
def test_the_published_day_is_what_the_simulation_gives(name: str) -> None:
    """Its first 70 minutes, with a burst; `python -m tests.benchmarks.autoscaling --check` does all."""
    until = 70 * 60.0
    scenario = scenarios(PUBLISHED["megapixels_per_second"])[name]
    found = Simulation(scenario).run(until)["series"]
    count = int(until // BIN_SECONDS)
    assert max(found["ready"]) > 10
    for what, values in found.items():
        assert values == PUBLISHED["series"][name][what][:count], what


def test_what_the_page_says_of_the_days_is_so() -> None:
    days = {name: each["summary"] for name, each in PUBLISHED["scenarios"].items()}
    main, tuned = days[MAIN], days[TUNED]
    assert days["short_queue"]["most_replicas"] < 5, "stays small"
    assert days["short_queue"]["refused_share"] == pytest.approx(1 / 8, rel=0.1)
    assert tuned["replica_hours"] / main["replica_hours"] == pytest.approx(1.25, abs=0.05)
    assert main["refused_share"] < tuned["refused_share"] < 1.5 * main["refused_share"]
    assert _refused_outside_bursts(TUNED) == pytest.approx(0.1, abs=0.03)
    assert tuned["wait_p95_seconds"] < 0.5 < days["lower_target"]["wait_p95_seconds"]
    manifests = days["manifests"]
    assert manifests["wait_p95_seconds"] < 0.5
    assert manifests["refused"] < min(main["refused"], tuned["refused"])
    assert manifests["replica_hours"] / main["replica_hours"] == pytest.approx(1.5, abs=0.05)
    assert days["slow_start"]["refused"] / main["refused"] == pytest.approx(7, rel=0.1)
    assert days["no_retries"]["refused"] / main["refused"] == pytest.approx(2, rel=0.1)
    assert days["fixed"]["refused_share"] == pytest.approx(0.1, rel=0.1)
    peak = days["fixed_at_the_peak"]
    assert peak["device_hours_asked"] / peak["replica_hours"] == pytest.approx(0.1, abs=0.02)
    busy = days["with_busy"]
    assert busy["refused"] / main["refused"] == pytest.approx(1 / 3, abs=0.04)
    assert busy["replica_hours"] / main["replica_hours"] == pytest.approx(4 / 3, abs=0.05)
    assert busy["wait_p99_seconds"] == pytest.approx(main["wait_p99_seconds"], rel=0.1)


def _refused_outside_bursts(name: str) -> float:
    """Share of the refused images, of which none is of the first 4 minutes of a burst."""
    refused = PUBLISHED["series"][name]["refused"]
    begins = [burst["at"] // BIN_SECONDS for burst in PUBLISHED["day"]["bursts"]]
    outside = [count for at, count in enumerate(refused) if not any(0 <= at - begin < 2 for begin in begins)]
    return sum(outside) / sum(refused)


async def test_a_simulation_needs_no_clock_but_its_own() -> None:
    loop = asyncio.get_running_loop()
    assert not [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    replica = _replica(Clock(), [])
    replica.take(_request(1.0))
    assert not [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
