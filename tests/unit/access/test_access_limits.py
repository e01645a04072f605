"""Rates, shares and rights of a caller."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.access.caller import ANONYMOUS, Caller, Priority
from upscaled_server.access.gates import Gates
from upscaled_server.access.pace import Throttle
from upscaled_server.errors import CallerLimited, KeysThrottled, PermissionDenied


@given(st.lists(st.floats(0.0, 3.0), max_size=200), st.floats(0.5, 50), st.floats(1, 20), st.floats(0.1, 5.0))
def test_answers_to_an_address_never_come_faster_than_the_rate(
    gaps: list[float], rate: float, burst: float, longest: float
) -> None:
    now = 0.0
    throttle = Throttle(rate, lambda: now, burst=burst, longest=longest)
    answers: list[float] = []
    refused: list[float] = []
    for gap in gaps:
        now += gap
        try:
            delay = throttle.delay("192.0.2.1")
        except KeysThrottled as error:
            refused.append(error.retry_after_seconds)
            continue
        assert 0 <= delay <= longest
        answers.append(now + delay)
    assert all(wait > longest for wait in refused)
    for first, start in enumerate(answers):
        for number, end in enumerate(answers[first:], 1):
            assert number <= burst + rate * (end - start) + 1 + 1e-6


def test_addresses_are_kept_in_bounded_number_and_apart(clock: Any) -> None:
    throttle = Throttle(1.0, clock, burst=1, longest=0.0, max_addresses=3)
    for number in range(10):
        assert throttle.delay(f"192.0.2.{number}") == 0
    assert len(throttle) == 3
    with pytest.raises(KeysThrottled):
        throttle.delay("192.0.2.9")


def test_requests_are_counted_on_average_over_ten_seconds(clock: Any) -> None:
    gates, anna = Gates(8, clock), Caller("anna", max_requests_per_second=2)
    for _ in range(20):
        gates.check_rate(anna)
    with pytest.raises(CallerLimited) as caught:
        gates.check_rate(anna)
    assert caught.value.retry_after_seconds == pytest.approx(0.5)
    gates.check_rate(Caller("ben", max_requests_per_second=2))
    clock.now += caught.value.retry_after_seconds
    gates.check_rate(anna)


def test_a_slow_rate_still_lets_one_through(clock: Any) -> None:
    gates, anna = Gates(8, clock), Caller("anna", max_requests_per_second=0.01)
    gates.check_rate(anna)
    with pytest.raises(CallerLimited) as caught:
        gates.check_rate(anna)
    assert caught.value.retry_after_seconds == pytest.approx(100)


@pytest.mark.parametrize(("own", "allowed"), [(0, 2), (1, 1), (5, 5)])
def test_work_at_once_is_bounded_by_the_callers_limit_or_the_default(own: int, allowed: int) -> None:
    gates, anna = Gates(2), Caller("anna", max_concurrent=own)
    assert gates.limit_of(anna) == allowed
    with ExitStack() as stack:
        for _ in range(allowed):
            stack.enter_context(gates.working(anna))
        with pytest.raises(CallerLimited, match="its limit"), gates.working(anna):
            pass
        with gates.working(Caller("ben")):
            pass
    with gates.working(anna):
        pass


def test_callers_without_a_key_share_no_limit_of_their_own() -> None:
    gates = Gates(1)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(gates.working(ANONYMOUS))
    assert gates.limit_of(ANONYMOUS) == 0


def test_only_allowed_models_may_be_used() -> None:
    Caller("anna").check_model("anything")
    with pytest.raises(PermissionDenied, match=r"options\.model: b is not among .* anna may use: a"):
        Caller("anna", allowed_models=("a",)).check_model("b")


def test_a_caller_of_batch_work_gets_it_unasked_and_nothing_above() -> None:
    anna = Caller("anna", max_priority=Priority.BATCH)
    assert anna.priority_for(None, Priority.INTERACTIVE) is Priority.BATCH
    assert anna.priority_for(Priority.BATCH, Priority.INTERACTIVE) is Priority.BATCH
    with pytest.raises(PermissionDenied, match="PRIORITY_BATCH at most"):
        anna.priority_for(Priority.INTERACTIVE, Priority.INTERACTIVE)
    assert Caller("ben").priority_for(None, Priority.INTERACTIVE) is Priority.INTERACTIVE
    assert Caller("ben").priority_for(Priority.BATCH, Priority.INTERACTIVE) is Priority.BATCH


def test_the_smaller_limit_of_pixels_holds() -> None:
    assert Caller("anna", max_input_pixels=5).pixels_within(10) == 5
    assert Caller("anna", max_input_pixels=50).pixels_within(10) == 10
    assert Caller("anna").pixels_within(10) == 10
