"""Which steps are computed at a time, and how many device seconds each has had."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from upscaled_server.errors import ProcessingFailed
from upscaled_server.pool.inference import Inference

_LONG = 10.0


class _Step:
    """Computes until it is let go."""

    def __init__(self, inference: Inference, *, shares: bool, behind: _Step | None = None) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        before = None if behind is None else behind.step
        self.step = inference.submit(self._compute, shares=shares, behind=before)
        self.future: Future[tuple[Any, float]] = self.step.done

    def _compute(self, leaving: Callable[[], None]) -> str:
        self.leaving = leaving
        self.begun.set()
        assert self.let_go.wait(_LONG)
        return "rows"

    def end(self) -> tuple[Any, float]:
        self.let_go.set()
        return self.future.result(_LONG)


@pytest.fixture
def begin() -> Callable[[bool], _Step]:
    inference = Inference()
    return lambda shares: _Step(inference, shares=shares)


def test_two_that_share_the_cores_are_computed_together_and_a_third_is_not(
    begin: Callable[[bool], _Step],
) -> None:
    first, second, third = (begin(True) for _ in range(3))
    assert first.begun.wait(_LONG)
    assert second.begun.wait(_LONG)
    assert not third.begun.is_set()
    first.end()
    assert third.begun.wait(_LONG)
    second.end()
    third.end()


def test_one_that_takes_all_cores_is_alone_and_nobody_overtakes_it(begin: Callable[[bool], _Step]) -> None:
    first, alone, last = begin(True), begin(False), begin(True)
    assert first.begun.wait(_LONG)
    first.end()
    assert alone.begun.wait(_LONG)
    assert not last.begun.is_set()
    alone.end()
    assert last.begun.wait(_LONG)
    last.end()


def test_what_has_not_begun_can_be_cancelled_and_then_never_begins(begin: Callable[[bool], _Step]) -> None:
    first, gone, last = begin(False), begin(False), begin(False)
    assert first.begun.wait(_LONG)
    assert not first.future.cancel()
    assert gone.future.cancel()
    first.end()
    assert last.begun.wait(_LONG)
    last.end()
    assert not gone.begun.is_set()


def test_one_behind_another_waits_for_its_end_and_lets_whoever_comes_go_first() -> None:
    inference = Inference()
    first = _Step(inference, shares=True)
    second = _Step(inference, shares=True, behind=first)
    third = _Step(inference, shares=True, behind=second)
    other = _Step(inference, shares=False)
    assert first.begun.wait(_LONG)
    first.end()
    assert other.begun.wait(_LONG)
    assert not second.begun.is_set()
    other.end()
    assert second.begun.wait(_LONG)
    assert not third.begun.is_set()  # although both share the cores
    second.end()
    assert third.begun.wait(_LONG)
    third.end()


def test_one_behind_another_begins_when_that_leaves_a_core() -> None:
    inference = Inference()
    first = _Step(inference, shares=True)
    second = _Step(inference, shares=True, behind=first)
    assert first.begun.wait(_LONG)
    first.leaving()
    assert second.begun.wait(_LONG)
    first.leaving()
    third = _Step(inference, shares=True, behind=second)
    second.leaving()
    assert not third.begun.is_set()  # two are at work
    first.end()
    assert third.begun.wait(_LONG)
    second.end()
    third.end()


def test_who_came_before_a_core_was_left_goes_before_the_step_behind() -> None:
    inference = Inference()
    first = _Step(inference, shares=True)
    second = _Step(inference, shares=True, behind=first)
    other = _Step(inference, shares=True)
    assert other.begun.wait(_LONG)
    first.leaving()
    assert not second.begun.is_set()
    last = _Step(inference, shares=True)
    first.end()
    assert second.begun.wait(_LONG)
    assert not last.begun.is_set()
    other.end()
    second.end()
    last.end()


def test_one_behind_that_comes_when_a_core_was_left_begins_at_once() -> None:
    inference = Inference()
    first = _Step(inference, shares=True)
    assert first.begun.wait(_LONG)
    first.leaving()
    second = _Step(inference, shares=True, behind=first)
    assert second.begun.wait(_LONG)
    first.end()
    second.end()


def test_behind_one_that_has_ended_or_was_cancelled_it_begins_at_once() -> None:
    inference = Inference()
    first = _Step(inference, shares=False)
    gone = _Step(inference, shares=False, behind=first)
    second = _Step(inference, shares=False, behind=gone)
    assert gone.future.cancel()
    first.end()
    assert second.begun.wait(_LONG)
    second.end()
    third = _Step(inference, shares=False, behind=second)
    assert third.begun.wait(_LONG)
    third.end()
    assert not gone.begun.is_set()


def test_an_error_belongs_to_its_step_and_the_next_one_begins() -> None:
    inference = Inference()

    def fail(_: object) -> None:
        raise ProcessingFailed("as told")

    with pytest.raises(ProcessingFailed, match="as told"):
        inference.submit(fail).done.result(_LONG)
    assert inference.submit(lambda _: 7).done.result(_LONG)[0] == 7


def test_seconds_of_all_steps_together_are_those_that_passed(begin: Callable[[bool], _Step]) -> None:
    began = time.perf_counter()
    first, second = begin(True), begin(True)
    assert second.begun.wait(_LONG)
    time.sleep(0.05)
    seconds = [first.end()[1], second.end()[1]]
    passed = time.perf_counter() - began
    assert min(seconds) > 0.02
    assert sum(seconds) <= passed
