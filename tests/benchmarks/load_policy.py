"""What the scheduler itself costs: processor time for each unit, and memory for units that wait."""

from __future__ import annotations

import time
import tracemalloc

from upscaled_server.pool.scheduler.policy import Policy, Scheduler, Unit

_UNITS = 10_000


def scheduler_cost(rounds: int = 5) -> dict[str, float]:
    """Of submitting, granting and finishing, with 10,000 units waiting, of 100 callers on 8 devices."""
    microseconds = [_microseconds_per_unit() for _ in range(rounds + 1)][1:]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    scheduler = _filled()
    megabytes = (tracemalloc.get_traced_memory()[0] - before) / 1e6
    tracemalloc.stop()
    assert scheduler.waiting("0") == _UNITS // 8
    return {
        "units_waiting": _UNITS,
        "microseconds_per_unit": sorted(microseconds)[rounds // 2],
        "megabytes_for_units_waiting": megabytes,
    }


def _filled() -> Scheduler:
    scheduler = Scheduler(tuple(map(str, range(8))), Policy())
    for number in range(_UNITS):
        scheduler.submit(_unit(number), now=number * 1e-5)
    return scheduler


def _unit(number: int) -> Unit:
    return Unit(
        device=str(number % 8),
        cost=0.1,
        caller=f"caller {number % 100}",
        weight=1 + number % 3,
        batch=number % 4 == 0,
        latest_start=10.0 + number % 50 if number % 5 == 0 else float("inf"),
    )


def _microseconds_per_unit() -> float:
    """Each unit that is finished is followed by another, so that as many wait all the time."""
    scheduler = _filled()
    now, done = 1.0, 0
    began = time.process_time()
    while done < _UNITS:
        for device in map(str, range(8)):
            grant = scheduler.grant(device, now)
            if grant is None:
                continue
            for unit in grant.units:
                scheduler.submit(_unit(_UNITS + done), now)
                scheduler.finished(unit, 0.1)
                done += 1
        now += 0.1
    return (time.process_time() - began) / done * 1e6
