"""The estimate of when work begins and ends, against going through every turn."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.pool.forecast import Outlook, Work, look_out


def _every_turn(own: Work, at_work: list[Work], queue: list[Work], places: int) -> Outlook:
    """One device, one turn after the other."""
    row, waiting, now = deque((each, each.turns) for each in at_work), deque(queue), 0.0
    begins_in = -1.0
    while True:
        while waiting and len(row) < places:
            each = waiting.popleft()
            row.append((each, each.turns))
        work, turns = row.popleft()
        if work is own and begins_in < 0:
            begins_in = now
        now += work.seconds / work.turns
        if turns > 1:
            row.append((work, turns - 1))
        elif work is own:
            return Outlook(begins_in, now)


def test_who_finds_a_free_device_begins_at_once() -> None:
    own = Work(3.0, 0.1)
    assert look_out(own, [], [own], places=4, devices=1) == Outlook(0.0, pytest.approx(3.0))
    other = Work(50.0, 0.1)
    assert look_out(own, [other], [own], places=4, devices=2).begins_in_seconds == 0.0


def test_images_of_one_step_are_waited_for_one_after_the_other() -> None:
    at_work, before, own = [Work(1.0, 1.0) for _ in range(4)], [Work(1.0, 1.0) for _ in range(6)], Work(1, 1)
    found = look_out(own, at_work, [*before, own], places=4, devices=1)
    assert found.begins_in_seconds == pytest.approx(10.0)
    assert found.ends_in_seconds == pytest.approx(11.0)


def test_a_small_image_that_has_a_place_waits_for_one_step_of_each_large_one() -> None:
    large, own = [Work(40.0, 0.1) for _ in range(3)], Work(0.2, 0.2)
    found = look_out(own, large, [own], places=4, devices=1)
    assert found.begins_in_seconds == pytest.approx(0.3)
    assert found.ends_in_seconds == pytest.approx(0.5)


def test_two_devices_are_through_in_half_the_time() -> None:
    def ends(devices: int) -> float:
        own = Work(1.0, 0.5)
        others = [Work(1.0, 0.5) for _ in range(9)]
        return look_out(own, others[:4], [*others[4:], own], places=4, devices=devices).ends_in_seconds

    # To within the turn at the end, for which there is no second one.
    assert ends(2) == pytest.approx(ends(1) / 2, abs=0.5)


def test_work_without_a_cost_ends_at_once() -> None:
    own = Work(0.0, 0.0)
    assert look_out(own, [Work(0.0, 0.0)], [own], places=1, devices=1) == Outlook(0.0, 0.0)


_STEPS = st.floats(0.05, 1.0)
_WORK = st.builds(lambda step, turns: Work(step * turns, step), _STEPS, st.integers(1, 40))


@given(st.lists(_WORK, max_size=6), st.lists(_WORK, max_size=6), _WORK, st.lists(_WORK, max_size=3))
def test_it_agrees_with_going_through_every_turn(
    at_work: list[Work], before: list[Work], own: Work, behind: list[Work]
) -> None:
    places = max(1, len(at_work))
    queue = [*before, own, *behind]
    expected = _every_turn(own, at_work, queue, places)
    found = look_out(own, at_work, queue, places=places, devices=1)
    assert found.begins_in_seconds == pytest.approx(expected.begins_in_seconds)
    assert found.ends_in_seconds == pytest.approx(expected.ends_in_seconds)
