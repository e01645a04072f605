"""A run in bands without a network: what others see of it while it is computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, cast

import numpy as np
import pytest

from upscaled_server.engine.architectures import Compact
from upscaled_server.engine.bands.finished import FinishedRows
from upscaled_server.engine.bands.flow import Work
from upscaled_server.engine.bands.graph import stream_graph
from upscaled_server.engine.bands.network import Band, BandNetwork
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.errors import OutOfMemory
from upscaled_server.tiling.plan import RunPlan

_LONG = 10.0
_BAND_ROWS = 32


class _Network:
    """Computes nothing, but looks for every row that it was promised."""

    def __init__(self) -> None:
        self.graph = stream_graph(Compact(convs=16))
        self.missing = 0
        self.failing: Iterator[bool] = iter(())

    def run(self, band: Band, work: Work, carried: dict[Any, Any]) -> None:
        if next(self.failing, False):
            raise OutOfMemory("once")
        for start, end in work.image_rows.values():
            band.image_rows(start, end)
        for blob, join in work.joins.items():
            if join.held > 0 and join.start >= 0 and carried.get((work.segment, blob)) is None:
                self.missing += 1
        kept = {blob: 1 for blob, join in work.joins.items() if join.kept}
        made = {op.name: 1 for op in self.graph.segments[work.segment]} if work.runs else {}
        band.commit(self.graph, work, carried, kept=cast("Any", kept), made=cast("Any", made))

    def store(self, _: Band, out: Any) -> None:
        out[...] = 1

    def bytes_of(self, _: Any) -> int:
        return 0


def _opened(network: _Network, executor: ThreadPoolExecutor, bands: int, parallel: int) -> BandsRun:
    lag = network.graph.lag_rows
    height = bands * _BAND_ROWS - lag
    plan = RunPlan("bands", 16, height, 4, 16, _BAND_ROWS, lag, 1, parallel, 1, 1000)
    run = BandsRun(cast("BandNetwork", network), plan, 8, executor)
    run.feed(np.zeros((height, 16, 3), np.uint8))
    return run


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


class _Memory:
    """Gives arrays, and knows its own."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray[Any, Any]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.arrays.append(np.empty(shape, dtype))
        return self.arrays[-1]


@pytest.mark.parametrize("parallel", [1, 2])
def test_results_are_written_into_the_memory_that_was_given_for_them(
    executor: ThreadPoolExecutor, parallel: int
) -> None:
    memory, height = _Memory(), 5 * _BAND_ROWS - 17
    network = _Network()
    plan = RunPlan("bands", 16, height, 4, 16, _BAND_ROWS, 17, 1, parallel, 1, 1000, rounds_per_step=2)
    run = BandsRun(cast("BandNetwork", network), plan, 8, executor, empty=memory.empty)
    run.feed(np.zeros((height, 16, 3), np.uint8))
    while not run.done:
        rows = run.step()
        assert len(rows) == 0 or any(rows.base is each for each in memory.arrays)
    run.close()
    assert len(memory.arrays) <= plan.steps


def test_rows_from_two_blocks_are_joined_in_the_memory_that_was_given_for_them() -> None:
    memory = _Memory()
    finished = FinishedRows((4, 3), np.uint8, 8, memory.empty)
    for value, count in ((1, 6), (2, 6)):
        room = finished.room(count)
        room.rows[...] = value
        finished.give(room)
    rows = finished.take()
    assert rows is memory.arrays[-1]
    assert rows[:, 0, 0].tolist() == [1] * 6 + [2] * 6


def _completing(run: BandsRun, seconds: float) -> tuple[threading.Event, threading.Event]:
    """Whoever completes the flow sets the first and waits for the second, for so long at most."""
    advance, reached, go_on = run._flow.advance, threading.Event(), threading.Event()

    def held(end: int) -> tuple[Work, ...]:
        works = advance(end)
        if run._flow.complete and not reached.is_set():
            reached.set()
            go_on.wait(seconds)
        return works

    cast("Any", run._flow).advance = held
    return reached, go_on


def test_a_run_is_not_done_while_its_last_band_begins(executor: ThreadPoolExecutor) -> None:
    run = _opened(_Network(), executor, bands=3, parallel=1)
    reached, go_on = _completing(run, _LONG)

    def all_steps() -> int:
        rows = 0
        while not run.done:
            rows += len(run.step())
        return rows

    stepping = executor.submit(all_steps)
    assert reached.wait(_LONG)
    asked = executor.submit(lambda: run.done)
    wait([asked], 0.1)
    assert not (asked.done() and asked.result())
    go_on.set()
    assert stepping.result(_LONG) == run.plan.height * 4
    assert run.done
    run.close()


def test_no_row_is_forgotten_where_steps_overlap_and_memory_was_short_once(
    executor: ThreadPoolExecutor,
) -> None:
    network = _Network()
    network.failing = iter([False, False, True])
    run = _opened(network, executor, bands=5, parallel=2)
    reached, _ = _completing(run, 0.1)
    steps, wait_for_turn = run.plan.steps, run._wait_for_turn

    def late(number: int) -> None:
        wait_for_turn(number)
        if number == steps - 1:
            reached.wait(1)

    cast("Any", run)._wait_for_turn = late
    calls: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()
    with ThreadPoolExecutor(2) as callers:

        def step(number: int) -> int:
            def follow() -> None:
                if number < steps:
                    calls.put(callers.submit(step, number + 1))

            return len(run.step(follow))

        calls.put(callers.submit(step, 1))
        rows = sum(calls.get(timeout=_LONG).result(_LONG) for _ in range(steps))
    assert run.done
    assert network.missing == 0
    assert rows == run.plan.height * 4
    run.close()
