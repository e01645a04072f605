"""Ten tries over three days."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.jobs.callbacks.schedule import (
    LONGEST_RETRY_AFTER_SECONDS,
    TRIES,
    WAITS_SECONDS,
    next_wait,
    read_retry_after,
)

NOW = 1_800_000_000.0


def test_there_are_ten_tries_over_three_days() -> None:
    assert TRIES == 10
    assert 68 * 3600 < sum(WAITS_SECONDS) < 72 * 3600
    assert list(WAITS_SECONDS) == sorted(WAITS_SECONDS)


@given(st.integers(1, 9), st.integers())
def test_each_wait_differs_from_the_plan_by_a_tenth_at_most(tries: int, seed: int) -> None:
    wait = next_wait(tries, None, random.Random(seed))
    assert wait is not None
    assert 0.9 <= wait / WAITS_SECONDS[tries - 1] <= 1.1


def test_waits_are_spread() -> None:
    chance = random.Random(1)
    assert len({next_wait(3, None, chance) for _ in range(100)}) == 100


def test_after_the_tenth_there_is_none() -> None:
    assert next_wait(10, None, random.Random()) is None
    assert next_wait(10, 5.0, random.Random()) is None


def test_a_receiver_may_ask_for_more_time_within_a_day_and_not_for_less() -> None:
    chance = random.Random(1)
    assert next_wait(1, 7200.0, chance) == 7200.0
    assert next_wait(1, 1e9, chance) == LONGEST_RETRY_AFTER_SECONDS
    least = next_wait(9, 1.0, chance)
    assert least is not None
    assert least > 17 * 3600


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("9" * 400, 9_999_999_999.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Wed, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(header: str, seconds: float | None) -> None:
    assert read_retry_after(header, NOW) == seconds
