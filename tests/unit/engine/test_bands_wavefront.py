"""Several threads on the bands of one image: order, amount, failures, memory."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from upscaled_server.engine.bands.network import Band
from upscaled_server.engine.bands.wavefront import Flight, Wavefront
from upscaled_server.errors import OutOfMemory, ProcessingFailed

SEGMENTS = 5


class Recorder:
    """Bands without pixels; what was computed, and how many threads were at it."""

    def __init__(self, bands: int, most_at_once: int = 99, large_from: int = SEGMENTS) -> None:
        self.done: list[tuple[int, int]] = []
        self.at_once = 0
        self.seen_at_once = 0
        self.most_at_once = most_at_once
        self.failing: tuple[int, int] | None = None
        self._bands = iter(range(bands))
        self._lock = threading.Lock()
        self.wavefront = Wavefront(SEGMENTS, self.compute, self.begin, large_from=large_from)
        self.seen_in_large = 0
        self._large_from = large_from

    def begin(self) -> Band | None:
        return cast("Any", next(self._bands, None))

    def compute(self, flight: Flight) -> None:
        key = cast("Any", flight.band), flight.segment
        with self._lock:
            self.at_once += 1
            self.seen_at_once = max(self.seen_at_once, self.at_once)
            inside = sum(
                each.segment > self._large_from or (each.segment == self._large_from and each.busy)
                for each in self.wavefront.flights
            )
            self.seen_in_large = max(self.seen_in_large, inside)
            crowded = self.at_once > self.most_at_once
        # Others get the chance to do something out of turn.
        threading.Event().wait(0.001)
        with self._lock:
            self.at_once -= 1
            if crowded:
                raise OutOfMemory("too many at once")
            if key == self.failing:
                raise ProcessingFailed("broken")
            self.done.append(key)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def _assert_in_order(done: list[tuple[int, int]]) -> None:
    for index, (band, segment) in enumerate(done):
        before = set(done[:index])
        assert segment == 0 or (band, segment - 1) in before
        assert band == 0 or (band - 1, segment) in before
    assert len(set(done)) == len(done)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_segment_follows_the_one_before_it_and_the_band_before_it(
    threads: int, executor: ThreadPoolExecutor
) -> None:
    recorder = Recorder(7)
    recorder.wavefront.run(1000, threads, executor)
    assert len(recorder.done) == 7 * SEGMENTS
    _assert_in_order(recorder.done)
    assert not recorder.wavefront.flights


def test_one_thread_is_the_executors_as_well_whoever_calls() -> None:
    recorder, who = Recorder(4), set()
    compute = recorder.wavefront._compute

    def computed(flight: Flight) -> None:
        who.add(threading.current_thread().name)
        compute(flight)

    recorder.wavefront._compute = computed
    with ThreadPoolExecutor(1, "core") as core:
        for until in (7, 1000):
            with ThreadPoolExecutor(1) as caller:
                caller.submit(recorder.wavefront.run, until, 1, core).result(20)
    assert who == {"core_0"}
    assert len(recorder.done) == 4 * SEGMENTS


def test_threads_work_beside_each_other(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(9)
    recorder.wavefront.run(1000, 3, executor)
    assert 1 < recorder.seen_at_once <= 3


def test_while_a_thread_is_held_up_the_other_begins_one_more_band(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(6)
    let_go, begun = threading.Event(), threading.Event()
    compute = recorder.wavefront._compute

    def computed(flight: Flight) -> None:
        if (cast("Any", flight.band), flight.segment) == (0, 2):
            assert begun.wait(10)
            # Two segments of each band behind the one that is held up, and no band further.
            threading.Event().wait(0.05)
            assert set(recorder.done[1:]) == {(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)}
            let_go.set()
        compute(flight)
        if (cast("Any", flight.band), flight.segment) == (2, 0):
            begun.set()

    recorder.wavefront._compute = computed
    with ThreadPoolExecutor(1) as caller:
        caller.submit(recorder.wavefront.run, 1000, 2, executor).result(20)
    assert let_go.is_set()
    assert len(recorder.done) == 6 * SEGMENTS
    _assert_in_order(recorder.done)


def test_it_stops_after_the_amount_it_was_given_and_goes_on_from_there(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(4)
    for count in range(1, 20):
        recorder.wavefront.run(count, 2, executor)
        assert len(recorder.done) == count
        assert len(recorder.wavefront.flights) <= 3
    recorder.wavefront.run(20, 2, executor)
    assert not recorder.wavefront.flights
    _assert_in_order(recorder.done)


def test_threads_go_on_to_the_next_amount_before_all_have_ended_the_one_before(
    executor: ThreadPoolExecutor,
) -> None:
    recorder = Recorder(6)
    slow, let_go, called = threading.Event(), threading.Event(), threading.Event()
    compute = recorder.wavefront._compute

    def computed(flight: Flight) -> None:
        if flight.segment == 2 and cast("Any", flight.band) == 0:
            slow.set()
            assert let_go.wait(10)
        compute(flight)

    recorder.wavefront._compute = computed
    with ThreadPoolExecutor(2) as callers:
        # The first thread stops in band 0; the second ends the amount in bands 1 and 2 and calls.
        first = callers.submit(recorder.wavefront.run, 7, 2, executor, called.set)
        assert slow.wait(10)
        assert called.wait(10)
        second = callers.submit(recorder.wavefront.run, 14, 2, executor, None)
        threading.Event().wait(0.05)
        assert not first.done()
        let_go.set()
        first.result(10)
        second.result(10)
    assert len(recorder.done) == 14
    recorder.wavefront.run(1000, 2, executor)
    assert len(recorder.done) == 6 * SEGMENTS
    _assert_in_order(recorder.done)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_amounts_that_overlap_are_all_done_and_nothing_twice(
    threads: int, executor: ThreadPoolExecutor
) -> None:
    recorder = Recorder(40)
    ends: list[int] = []
    with ThreadPoolExecutor(3) as callers:
        calls: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()

        def step(number: int) -> None:
            begun = threading.Event()

            def follow() -> None:
                if number < 40 * SEGMENTS // 3:
                    calls.put(callers.submit(step, number + 1))
                begun.set()

            recorder.wavefront.run(3 * (number + 1), threads, executor, follow)
            ends.append(len(recorder.done))
            assert begun.wait(10)

        calls.put(callers.submit(step, 0))
        for _ in range(40 * SEGMENTS // 3 + 1):
            calls.get(timeout=10).result(10)
    assert len(recorder.done) == 40 * SEGMENTS
    _assert_in_order(recorder.done)
    assert not recorder.wavefront.flights


def test_a_failure_ends_all_amounts_that_overlap_and_the_next_one_may_try_again(
    executor: ThreadPoolExecutor,
) -> None:
    recorder = Recorder(6)
    recorder.failing = (2, 3)
    called = threading.Event()
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(recorder.wavefront.run, 12, 2, executor, called.set)
        assert called.wait(10)
        second = callers.submit(recorder.wavefront.run, 1000, 2, executor, None)
        first.exception(10)
        with pytest.raises(ProcessingFailed, match="broken"):
            second.result(10)
    assert recorder.at_once == 0
    recorder.failing = None
    recorder.wavefront.run(1000, 2, executor)
    assert len(recorder.done) == 6 * SEGMENTS
    _assert_in_order(recorder.done)


def test_a_failure_ends_the_step_after_the_others_have_stopped(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(6)
    recorder.failing = (2, 3)
    with pytest.raises(ProcessingFailed, match="broken"):
        recorder.wavefront.run(1000, 3, executor)
    assert recorder.at_once == 0
    assert (2, 3) not in recorder.done


def test_a_failure_of_what_is_called_when_a_thread_leaves_is_the_steps(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(3)

    def leaving() -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPoolExecutor(1) as callers:
        with pytest.raises(RuntimeError, match="new thread"):
            callers.submit(recorder.wavefront.run, 1000, 2, executor, leaving).result(10)
        callers.submit(recorder.wavefront.run, 1000, 2, executor, None).result(10)
    assert len(recorder.done) == 3 * SEGMENTS


@pytest.mark.parametrize("refused", [0, 1])
def test_threads_that_cannot_be_had_fail_the_step_and_are_not_waited_for(
    refused: int, executor: ThreadPoolExecutor
) -> None:
    recorder = Recorder(3)
    starts = itertools.count()

    class Full(Executor):
        def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
            if next(starts) == refused:
                raise RuntimeError("cannot schedule new futures")
            return executor.submit(work, *arguments, **named)

    with ThreadPoolExecutor(1) as callers:
        with pytest.raises(RuntimeError, match="new futures"):
            callers.submit(recorder.wavefront.run, 5, 2, Full()).result(10)
        assert recorder.at_once == 0
        callers.submit(recorder.wavefront.run, 1000, 2, executor).result(10)
    assert len(recorder.done) == 3 * SEGMENTS
    _assert_in_order(recorder.done)


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_that_others_work_keeps_from_beginning_is_not_waited_for(fails: bool) -> None:
    recorder, let_go, submitted = Recorder(3), threading.Event(), itertools.count()
    if fails:
        recorder.failing = (2, 4)

    class Shared(ThreadPoolExecutor):
        def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
            if next(submitted) == 1:
                super().submit(let_go.wait, 10)
            return super().submit(work, *arguments, **named)

    with Shared(1) as executor, ThreadPoolExecutor(1) as callers:
        error = callers.submit(recorder.wavefront.run, 1000, 2, executor).exception(5)
        assert isinstance(error, ProcessingFailed) if fails else error is None
        let_go.set()
    assert len(recorder.done) == 3 * SEGMENTS - fails


def test_where_memory_is_short_one_thread_goes_on_alone(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(6, most_at_once=1)
    recorder.wavefront.run(1000, 4, executor)
    assert len(recorder.done) == 6 * SEGMENTS
    _assert_in_order(recorder.done)
    recorder.seen_at_once = 0
    recorder.wavefront.run(1000, 4, executor)
    assert recorder.seen_at_once <= 1


def test_memory_too_short_for_one_thread_is_an_error(executor: ThreadPoolExecutor) -> None:
    recorder = Recorder(3, most_at_once=0)
    with pytest.raises(OutOfMemory):
        recorder.wavefront.run(1000, 3, executor)
    assert recorder.at_once == 0


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_a_third_of_the_bands_may_be_where_much_memory_is_taken(
    threads: int, most: int, executor: ThreadPoolExecutor
) -> None:
    recorder = Recorder(12, large_from=2)
    for until in range(7, 12 * SEGMENTS + 7, 7):
        recorder.wavefront.run(until, threads, executor)
    assert len(recorder.done) == 12 * SEGMENTS
    assert 1 <= recorder.seen_in_large <= most
    _assert_in_order(recorder.done)
