"""Whose unit is next, on simulated devices."""

from __future__ import annotations

import itertools
import random

import pytest
from simulated import Run, Simulation

from upscaled_server.pool.scheduler.policy import Policy


def _mixed(simulation: Simulation, count: int, seed: int) -> list[Run]:
    """Mostly small, some of hundreds of units; twenty callers, three weights, both classes, deadlines."""
    chance = random.Random(seed)
    runs = []
    for name in range(count):
        run = Run(
            name,
            chance.choice(simulation.names),
            steps=chance.randint(100, 300) if chance.random() < 0.01 else chance.randint(1, 6),
            unit_seconds=chance.uniform(0.02, 0.1),
            caller=f"caller {chance.randrange(20)}",
            weight=chance.choice([0.5, 1.0, 3.0]),
            batch=chance.random() < 0.2,
            deadline=chance.uniform(1, 400) if chance.random() < 0.3 else float("inf"),
            batch_key=chance.choice([None, None, "a", "b"]),
        )
        runs.append(run)
        simulation.arrive(run, chance.uniform(0, 100))
    return runs


def test_ten_thousand_mixed_requests_on_eight_devices_all_end_and_the_same_way_each_time() -> None:
    simulations = []
    for _ in range(2):
        noise = random.Random(1)
        simulation = Simulation(8, noise=lambda seconds, noise=noise: seconds * noise.uniform(0.5, 2))
        runs = _mixed(simulation, 10_000, seed=3)
        chance = random.Random(4)
        for run in chance.sample(runs, 500):
            simulation.leave(run, chance.uniform(50, 400))
        simulation.run()
        simulations.append(simulation)

    first, second = simulations
    assert first.log == second.log
    assert not first.running
    # Those that had not begun when they left never did.
    assert len(first.finished) > 9_500
    assert first.largest_batch == first.policy.batch_size
    assert not any(first.scheduler.waiting(name) for name in first.names)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_callers_who_want_more_than_there_is_get_device_seconds_by_weight(seed: int) -> None:
    chance = random.Random(seed)
    simulation = Simulation(8, noise=lambda seconds: seconds * chance.uniform(0.5, 2))
    weights = {f"caller {number}": chance.choice([0.5, 1.0, 2.0, 4.0]) for number in range(10)}
    for caller, weight in weights.items():
        # Whatever they ask for: many short units or few long ones, few runs or many.
        seconds, runs = chance.choice([0.01, 0.1, 0.8]), chance.randint(3, 30)
        for number in range(8 * runs):
            device = simulation.names[number % 8]
            simulation.arrive(Run(number, device, 10**6, seconds, caller, weight), at=0.0)
    simulation.run(until=300.0)

    share = {caller: simulation.seconds[caller] / weight for caller, weight in weights.items()}
    mean = sum(simulation.seconds.values()) / sum(weights.values())
    for caller in weights:
        assert share[caller] == pytest.approx(mean, rel=0.1), caller


def test_a_small_image_waits_for_one_unit_of_batch_work_at_most() -> None:
    simulation = Simulation(1)
    for number in range(5):
        simulation.arrive(Run(number, "device 0", 1000, 0.1, batch=True), at=0.0)
    small = [Run(100 + number, "device 0", 1, 0.05) for number in range(20)]
    for number, run in enumerate(small):
        simulation.arrive(run, at=1.03 + number)
    simulation.run(until=25.0)

    assert all(run.ended_at - run.begun_at <= 0.1 + 0.05 + 1e-9 for run in small)


def test_a_large_image_gives_way_after_every_unit() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    simulation.arrive(Run(1, "device 0", 50, 0.1), at=0.0)
    simulation.arrive(Run(2, "device 0", 3, 0.1), at=0.05)
    simulation.run()

    assert [name for _, _, name in simulation.log][:8] == [1, 2, 1, 2, 1, 2, 1, 1]


def test_small_images_of_a_caller_are_finished_in_the_order_in_which_they_came() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    for name in range(6):
        simulation.arrive(Run(name, "device 0", 3, 0.1, at_a_stretch=True), at=0.001 * name)
    simulation.run()

    assert [run.name for run in simulation.finished] == list(range(6))
    assert [name for _, _, name in simulation.log] == [name for name in range(6) for _ in range(3)]


def test_a_large_image_has_a_unit_between_small_ones_however_many_come() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    simulation.arrive(Run(100, "device 0", 1000, 0.1), at=0.0)
    for name in range(70):  # two at a time, for four fifths of the device
        simulation.arrive(Run(name, "device 0", 2, 0.1, at_a_stretch=True), at=0.5 * (name // 2))
    simulation.run(until=18.0)

    turns = [at for at, _, name in simulation.log if name == 100]
    assert max(after - before for before, after in itertools.pairwise(turns)) < 1.0
    # And none of the small ones waits for more than one of its units, and for the one that came with it.
    assert all(run.ended_at - run.begun_at <= 0.1 + 2 * 0.2 + 0.01 for run in simulation.finished)


def test_batch_work_is_not_starved_by_interactive_work() -> None:
    simulation = Simulation(1, Policy(aging_seconds=5.0))
    simulation.arrive(Run(1, "device 0", 4, 0.1, caller="patient", batch=True), at=0.0)
    for number in range(3):
        simulation.arrive(Run(10 + number, "device 0", 10**6, 0.1, caller="busy"), at=0.0)
    simulation.run(until=60.0)

    turns = [at for at, _, name in simulation.log if name == 1]
    assert len(turns) == 4
    assert all(after - before < 6.0 for before, after in zip([0.0, *turns], turns, strict=False))


def test_whoever_would_be_late_goes_first_the_most_pressed_of_them_first() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    for name, deadline in [(1, float("inf")), (2, 0.9), (3, 0.8), (4, float("inf"))]:
        simulation.arrive(Run(name, "device 0", 3, 0.1, deadline=deadline), at=0.0)
    simulation.run()

    ended = {run.name: run.ended_at for run in simulation.finished}
    assert ended[3] <= 0.8  # by turns, each would end after 1.0
    assert ended[3] < ended[2] <= 0.9 < 1.0 < ended[1]


def test_a_caller_who_asked_for_nothing_for_long_has_saved_nothing_up() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    simulation.arrive(Run(1, "device 0", 10**6, 0.1, caller="always"), at=0.0)
    for name in (2, 3):
        simulation.arrive(Run(name, "device 0", 10**6, 0.1, caller="late"), at=100.0)
    simulation.run(until=120.0)

    late = sum(name != 1 for at, _, name in simulation.log if at > 100.0)
    assert late == pytest.approx(100, abs=2)


def test_units_of_one_key_are_granted_together_when_the_device_is_busy() -> None:
    simulation = Simulation(1, Policy(batch_size=8, batch_delay_seconds=0.01))
    for name in range(20):
        simulation.arrive(Run(name, "device 0", 1, 0.1, batch_key="64x64"), at=name * 0.0001)
    simulation.arrive(Run(50, "device 0", 1, 0.1, batch_key="other"), at=0.0)
    simulation.run()

    sizes = [
        len([1 for at, _, _ in simulation.log if at == when])
        for when in sorted({e[0] for e in simulation.log})
    ]
    assert max(sizes) == 8
    assert sum(sizes) == 21
    # Nobody waits for company that does not come.
    assert all(run.ended_at < 0.6 for run in simulation.finished)


def test_a_suspect_is_alone_on_the_device() -> None:
    simulation = Simulation(1)
    simulation.arrive(Run(1, "device 0", 20, 0.1), at=0.0)
    simulation.arrive(Run(2, "device 0", 20, 0.1), at=0.0)
    scheduler = simulation.scheduler
    simulation.run(until=0.55)
    suspect = Run(3, "device 0", 1, 0.1).unit()
    suspect.suspect = True
    scheduler.submit(suspect, simulation.now)
    for unit in [unit for unit, run in simulation.running.items() if unit.grant is not None]:
        assert scheduler.grant("device 0", simulation.now) is None
        scheduler.finished(unit, 0.1)
    grant = scheduler.grant("device 0", simulation.now)
    while grant is not None and suspect not in grant.units:
        for unit in grant.units:
            scheduler.finished(unit, 0.1)
        grant = scheduler.grant("device 0", simulation.now)

    assert grant is not None
    assert grant.units == (suspect,)
    scheduler.submit(Run(4, "device 0", 1, 0.1).unit(), simulation.now)
    assert scheduler.grant("device 0", simulation.now) is None


def test_a_unit_that_is_cancelled_while_it_waits_is_never_granted_and_leaves_nothing() -> None:
    simulation = Simulation(1, Policy(ahead=1))
    scheduler = simulation.scheduler
    units = [Run(number, "device 0", 1, 0.1, batch_key="k").unit() for number in range(10_000)]
    for unit in units:
        scheduler.submit(unit, 0.0)
    first = scheduler.grant("device 0", 0.0)
    assert first is not None
    for unit in units:
        if unit.grant is None:
            assert scheduler.cancel(unit)
            assert not scheduler.cancel(unit)
    for unit in first.units:
        assert not scheduler.cancel(unit)
        scheduler.finished(unit, 0.1)

    assert scheduler.waiting("device 0") == 0
    assert scheduler.grant("device 0", 1.0) is None
