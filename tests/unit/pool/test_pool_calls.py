"""What a worker was asked, and what it was doing when it ended."""

from __future__ import annotations

import pytest

from upscaled_server.errors import WorkerLost
from upscaled_server.pool.calls import Answer, Calls


def _lost() -> WorkerLost:
    return WorkerLost("ended", device="cpu")


@pytest.fixture
async def calls() -> Calls:
    return Calls()


def _ask(calls: Calls, run: int, *, shares: bool = True) -> int:
    number = calls.new_number()
    calls.add(number).cancel()  # nobody waits here
    calls.sent_step(number, run, 60.0, shares=shares)
    return number


async def test_steps_that_share_the_cores_are_at_work_two_at_a_time(calls: Calls) -> None:
    for run in (1, 2, 3):
        _ask(calls, run)
    calls.fail(_lost)
    assert calls.at_work == (1, 2)


async def test_of_steps_that_do_not_share_the_first_is_at_work(calls: Calls) -> None:
    for run in (1, 2):
        _ask(calls, run, shares=run != 1)
    calls.fail(_lost)
    assert calls.at_work == (1,)


async def test_a_step_behind_another_of_its_run_is_not_at_work(calls: Calls) -> None:
    for run in (1, 1, 2):
        _ask(calls, run)
    calls.fail(_lost)
    assert calls.at_work == (1, 2)


async def test_a_step_behind_another_gets_in_line_when_that_one_is_done(calls: Calls) -> None:
    first, _, _ = _ask(calls, 1), _ask(calls, 1), _ask(calls, 2, shares=False)
    calls.take(first)
    calls.fail(_lost)
    assert calls.at_work == (2,)


async def test_answers_that_nobody_waits_for_are_taken(calls: Calls) -> None:
    number = calls.new_number()
    waiting = calls.add(number)
    assert calls.take(number) is waiting
    waiting.set_result(Answer({}, None))
    assert calls.take(number) is None
    assert calls.fail(_lost) == 0
