"""What those who wait are told: how long until a device begins with them."""

from __future__ import annotations

from typing import Any

import pytest

from upscaled_server.pool.admission import Admission
from upscaled_server.pool.claim import Claim, Needs
from upscaled_server.pool.places import Place, Ticket


def _admission(max_open: int = 1) -> Admission:
    return Admission([Place("cpu", 1000, max_open, True)], 1000)


def _ticket(
    seconds: float = 1.0, step_seconds: float | None = None, batch: bool = False, **claim: Any
) -> Ticket:
    needs = Needs(state_bytes=1, working_bytes=0, seconds=seconds, step_seconds=step_seconds or seconds)
    return Ticket.of(needs, Claim(priority="batch" if batch else "interactive", **claim))


def _enter(admission: Admission, *arguments: Any, **more: Any) -> Ticket:
    ticket = _ticket(*arguments, **more)
    admission.enter(ticket)
    return ticket


def _begins_in(admission: Admission, ticket: Ticket) -> float:
    return admission.outlook(ticket).begins_in_seconds


async def test_where_a_device_is_free_there_is_no_wait() -> None:
    admission = _admission()
    assert _begins_in(admission, _ticket(40.0, 0.1)) == 0


async def test_each_who_waits_is_told_the_device_seconds_before_it() -> None:
    admission = _admission()
    running = _enter(admission, 4.0, 0.5)
    first, second = _enter(admission, 2.0, 0.5), _enter(admission, 2.0, 0.5)
    assert _begins_in(admission, first) == pytest.approx(4.0)
    assert _begins_in(admission, second) == pytest.approx(6.0)
    assert _begins_in(admission, _ticket()) == pytest.approx(8.0)  # who would come now
    assert admission.outlook(second).ends_in_seconds == pytest.approx(8.0)

    running.seconds_left -= 3.0
    assert _begins_in(admission, first) == pytest.approx(1.0)


async def test_interactive_work_does_not_wait_for_batch_work_but_batch_work_for_it() -> None:
    admission = _admission(max_open=4)
    _enter(admission, 100.0, 0.1, batch=True)
    interactive = _ticket(3.0, 0.5)
    assert _begins_in(admission, interactive) == 0
    admission.enter(interactive)
    assert _begins_in(admission, _ticket(1.0, batch=True)) == pytest.approx(3.0 + 0.1)


async def test_who_shares_a_device_is_told_of_the_steps_between() -> None:
    admission = _admission(max_open=4)
    for _ in range(2):
        _enter(admission, 60.0, 0.2)
    outlook = admission.outlook(_ticket(2.0, 0.2))
    assert outlook.begins_in_seconds == pytest.approx(0.4)
    assert outlook.ends_in_seconds == pytest.approx(6.0)
    # A small image has all of its steps in one go.
    assert admission.outlook(_ticket(0.8, 0.2)).ends_in_seconds == pytest.approx(1.2)


async def test_a_caller_with_little_work_does_not_wait_for_all_of_one_with_much() -> None:
    admission = _admission()
    many = [_enter(admission, caller="many") for _ in range(50)]
    assert _begins_in(admission, _ticket(caller="few")) == pytest.approx(1.0, abs=1.01)
    assert _begins_in(admission, _ticket(caller="many")) == pytest.approx(50.0)
    few = _enter(admission, caller="few")
    admission.leave(many[0])
    assert few.place is not None


async def test_the_estimate_comes_true_when_nothing_more_comes() -> None:
    admission = _admission(max_open=2)
    running = [_enter(admission, 3.0, 1.0), _enter(admission, 2.0, 1.0)]
    waiting = [_enter(admission, 1.0) for _ in range(3)]
    told = [_begins_in(admission, each) for each in waiting]
    now, began, row = 0.0, dict[int, float](), list(running)
    while row:
        ticket = row.pop(0)
        if ticket in waiting:
            began.setdefault(waiting.index(ticket), now)
        now += 1.0
        ticket.seconds_left -= 1.0
        if ticket.seconds_left > 0:
            row.append(ticket)
        else:
            admission.leave(ticket)
            row += [
                each for each in waiting if each.place is not None and each not in row and each.seconds_left
            ]
    assert told == [pytest.approx(began[n], abs=1.0) for n in range(3)]
