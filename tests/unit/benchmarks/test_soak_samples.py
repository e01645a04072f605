"""What a soak samples is judged and drawn as it was; half of what it asks is bad, and the same every time."""

from __future__ import annotations

import math

import pytest
from tests.soak import bad_requests
from tests.soak.kinds import KINDS, chosen
from tests.soak.sampling import Samples


def samples(values: list[float]) -> Samples:
    """One value a second, with a request each."""
    found = Samples()
    for number, value in enumerate(values):
        found.add(float(number), number, {"bytes": value})
    return found


def test_growth_is_told_for_each_request_after_the_first_half() -> None:
    assert samples([1e6] * 50 + [1e6 + 7 * n for n in range(50)]).slope("bytes", 49) == pytest.approx(7)


def test_a_peak_in_the_middle_is_no_growth() -> None:
    level = [100.0] * 101
    level[50] = 500.0
    assert samples(level).slope("bytes", -1) == pytest.approx(0, abs=1e-9)


def test_fewer_points_are_the_highest_of_their_spans() -> None:
    assert samples([1, 5, 2, 0, 9, 3]).thinned(3)["bytes"] == [(0.0, 5), (2.0, 2), (4.0, 9)]


def test_moments_without_a_value_are_left_out() -> None:
    nothing = math.nan
    assert samples([1, nothing, nothing, nothing, 4, 2]).thinned(3)["bytes"] == [(0.0, 1), (4.0, 4)]


def test_half_of_the_requests_are_bad() -> None:
    bad = sum(kind.weight for kind in KINDS if kind.ask.__module__ == bad_requests.__name__)
    assert (bad, sum(kind.weight for kind in KINDS)) == (50, 100)


def test_a_seed_gives_the_same_requests() -> None:
    first, again, other = ([chosen(n, seed)[0].name for n in range(50)] for seed in (1, 1, 2))
    assert first == again
    assert first != other
