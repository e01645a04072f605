"""Which lane is looked at next: urgent ones first, batch ones now and then, and cost shared equally."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.state.nats.work.fairness import FairLanes
from upscaled_server.state.nats.work.lane import Lane, lane_of


def _urgent(number: int) -> Lane:
    return Lane(True, number)


def _batch(number: int) -> Lane:
    return Lane(False, number)


def _take(lanes: FairLanes, count: int, cost: dict[Lane, float] | None = None) -> list[Lane]:
    """Of lanes that always have something."""
    taken = []
    for _ in range(count):
        lane = lanes.next(0.0)
        assert lane is not None
        lanes.taken(lane, (cost or {}).get(lane, 1.0))
        taken.append(lane)
    return taken


def test_nothing_is_looked_at_unless_something_may_be_there() -> None:
    lanes = FairLanes()
    assert lanes.next(0.0) is None
    assert lanes.next_at() is None


def test_urgent_lanes_come_first_and_every_eighth_item_is_of_a_batch_lane() -> None:
    lanes = FairLanes()
    lanes.stored(_batch(0), 0.0)
    lanes.stored(_urgent(0), 0.0)
    taken = _take(lanes, 80)
    assert [number % 8 for number, lane in enumerate(taken) if not lane.urgent] == [7] * 10


def test_an_empty_batch_lane_costs_urgent_ones_nothing() -> None:
    lanes = FairLanes()
    lanes.stored(_urgent(0), 0.0)
    assert set(_take(lanes, 80)) == {_urgent(0)}


def test_batch_lanes_are_served_while_no_urgent_one_has_anything() -> None:
    lanes = FairLanes()
    lanes.stored(_batch(3), 0.0)
    assert set(_take(lanes, 20)) == {_batch(3)}


@given(st.lists(st.floats(0.01, 100.0), min_size=2, max_size=8), st.booleans())
def test_lanes_that_always_have_something_share_the_cost_to_within_one_item(
    costs: list[float], urgent: bool
) -> None:
    lanes = FairLanes()
    cost = {Lane(urgent, number): each for number, each in enumerate(costs)}
    for lane in cost:
        lanes.stored(lane, 0.0)
    had: Counter[Lane] = Counter()
    for lane in _take(lanes, 500, cost):
        had[lane] += cost[lane]  # type: ignore[assignment]
        assert max(had.values()) - min(had[each] for each in cost) <= 2 * max(costs) * (1 + 1e-9)


def test_a_lane_that_was_empty_has_saved_nothing_up() -> None:
    lanes = FairLanes()
    lanes.stored(_urgent(0), 0.0)
    _take(lanes, 100)
    lanes.stored(_urgent(1), 0.0)
    assert Counter(_take(lanes, 20)) == {_urgent(0): 10, _urgent(1): 10}


def test_a_lane_that_had_much_before_the_others_came_does_not_pay_for_it() -> None:
    lanes = FairLanes()
    lanes.stored(_urgent(0), 0.0)
    _take(lanes, 100)
    lanes.stored(_urgent(1), 0.0)
    _take(lanes, 1)
    lanes.nothing(_urgent(1), 0.0)
    assert _take(lanes, 1) == [_urgent(0)]


def test_a_lane_where_something_was_stored_is_looked_at_a_few_times_more() -> None:
    lanes = FairLanes()
    lanes.stored(_urgent(0), 10.0)
    at, looks = 10.0, []
    while lanes.next(at) is not None:
        looks.append(round(at - 10.0, 3))
        lanes.nothing(_urgent(0), at)
        at = lanes.next_at() or at
        assert lanes.next(at - 0.001) is None
    assert looks == [0.0, 0.01, 0.06, 0.31]
    assert lanes.next_at() is None


def test_a_lane_that_may_hold_something_is_looked_at_once() -> None:
    lanes = FairLanes()
    lanes.perhaps(_urgent(0), 10.0)
    assert lanes.next(10.0) == _urgent(0)
    lanes.nothing(_urgent(0), 10.0)
    assert lanes.next(1000.0) is None


def test_a_lane_that_does_not_answer_leaves_others_alone_and_is_asked_again() -> None:
    lanes = FairLanes()
    lanes.stored(_urgent(0), 10.0)
    lanes.perhaps(_urgent(1), 10.0)
    lanes.unanswered(_urgent(0), 10.0)
    assert lanes.next(10.0) == _urgent(1)
    lanes.nothing(_urgent(1), 10.0)
    assert lanes.next(10.0) is None
    assert lanes.next(10.5) == _urgent(0)


def test_owners_keep_their_lane_whoever_asks() -> None:
    assert [lane_of(owner, True, 16).number for owner in ("anna", "berta", "caesar", "", "ü\udc80")] == (
        [lane_of(owner, False, 16).number for owner in ("anna", "berta", "caesar", "", "ü\udc80")]
    )
    # Other versions must find the same: these numbers are part of the format.
    assert [lane_of(owner, True, 16).number for owner in ("anna", "berta", "caesar")] == [12, 12, 15]


def test_owners_spread_over_all_lanes() -> None:
    spread = Counter(lane_of(f"caller-{number}", True, 16).number for number in range(16_000))
    assert set(spread) == set(range(16))
    assert max(spread.values()) < 1.2 * min(spread.values())


@pytest.mark.parametrize("name", ["urgent", "urgent.", "urgent.x", "urgent.-1", "other.1", "urgent.1.2", ""])
def test_what_is_no_lane_is_none(name: str) -> None:
    assert Lane.named(name) is None


@pytest.mark.parametrize("lane", [Lane(True, 0), Lane(False, 15)])
def test_a_lane_is_found_by_its_name(lane: Lane) -> None:
    assert Lane.named(lane.name) == lane
