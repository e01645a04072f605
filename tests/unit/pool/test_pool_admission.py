"""Who may open a run, and who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import DeadlinePassed, LimitExceeded, Overloaded, Unavailable
from upscaled_server.pool.admission import MAX_OVERTAKEN, Admission
from upscaled_server.pool.claim import Claim, Needs
from upscaled_server.pool.places import LEFT_ALONE_SECONDS, Place, Ticket


def _place(name: str = "cpu", budget: int = 100, max_open: int = 4, up: bool = True) -> Place:
    return Place(name, budget, max_open, up)


def _enter(
    admission: Admission,
    state: int = 10,
    working: int = 0,
    seconds: float = 1.0,
    measured: bool = False,
    only_on: str | None = None,
    batch: bool = False,
    **claim: Any,
) -> Ticket:
    needs = Needs(
        state_bytes=state,
        working_bytes=working,
        seconds=seconds,
        step_seconds=0.1,
        measured=measured,
        only_on=only_on,
    )
    ticket = Ticket.of(needs, Claim(priority="batch" if batch else "interactive", **claim))
    admission.enter(ticket)
    return ticket


async def test_state_adds_up_and_working_memory_counts_once() -> None:
    admission = Admission([_place(budget=100)], 10)

    first, second = _enter(admission, 20, 50), _enter(admission, 20, 60)
    third = _enter(admission, 20, 10)

    assert first.place is not None
    assert second.place is not None
    assert third.place is None  # 60 + 60 would not fit, although 40 + 60 did


async def test_a_run_that_does_not_fit_is_overtaken_by_those_that_do_but_not_for_ever() -> None:
    admission = Admission([_place(budget=100, max_open=100)], 100)
    running = _enter(admission, 60)
    large = _enter(admission, 90)
    assert admission.position(large) == 1

    small = [_enter(admission, 1) for _ in range(MAX_OVERTAKEN + 3)]
    assert [each.place is not None for each in small] == [True] * MAX_OVERTAKEN + [False] * 3
    assert admission.position(small[-1]) == 4

    for each in [running, *small[:MAX_OVERTAKEN]]:
        admission.leave(each)
    assert large.place is not None
    assert all(each.place is not None for each in small[MAX_OVERTAKEN:])


async def test_interactive_runs_go_before_batch_runs_and_find_room_beside_them() -> None:
    admission = Admission([_place(max_open=4)], 100)
    batch = [_enter(admission, 1, batch=True) for _ in range(6)]
    assert [each.place is not None for each in batch] == [True] * 3 + [False] * 3

    interactive = [_enter(admission, 1) for _ in range(2)]
    assert [each.place is not None for each in interactive] == [True, False]
    assert admission.position(interactive[1]) == 1
    assert admission.position(batch[3]) == 2

    admission.leave(batch[0])
    assert interactive[1].place is not None
    assert batch[3].place is None


async def test_a_caller_with_hundreds_waiting_holds_up_another_by_one_run_only() -> None:
    admission = Admission([_place(max_open=1)], 1000)
    tickets = [_enter(admission, caller="many") for _ in range(100)]
    other = [_enter(admission, caller="few") for _ in range(2)]

    admission.leave(tickets[0])
    assert other[0].place is not None
    admission.leave(other[0])
    assert tickets[1].place is not None
    admission.leave(tickets[1])
    assert other[1].place is not None


async def test_more_pending_device_seconds_than_the_bound_are_refused_until_they_are_worked_off() -> None:
    admission = Admission([_place(max_open=10)], 100, max_pending_seconds=25)
    batch, interactive = _enter(admission, seconds=20, batch=True), _enter(admission, seconds=10)

    with pytest.raises(Overloaded) as refused:
        _enter(admission, seconds=30, batch=True)
    assert refused.value.retry_after_seconds == pytest.approx(5)
    _enter(admission, seconds=1, batch=True)  # which waits for a second of each
    _enter(admission, seconds=1)

    batch.seconds_left -= 8
    assert _enter(admission, seconds=30, batch=True).place is not None
    assert interactive.place is not None


async def test_a_deadline_that_cannot_be_met_is_refused_but_only_by_measured_speed() -> None:
    admission = Admission([_place(max_open=10)], 100)
    soon = time.monotonic() + 10
    with pytest.raises(DeadlinePassed) as refused:
        _enter(admission, seconds=21, deadline=soon, measured=True)
    assert refused.value.numbers["estimated_seconds"] == 21
    _enter(admission, seconds=21, deadline=soon)

    # Of the others' work only as much is done before as of this one.
    assert _enter(admission, seconds=5, deadline=soon, measured=True).place is not None
    with pytest.raises(DeadlinePassed):
        _enter(admission, seconds=8, deadline=soon, measured=True)


async def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    admission = Admission([_place(max_open=1)], max_waiting=1)
    _enter(admission, seconds=10)
    _enter(admission, seconds=10)

    with pytest.raises(Overloaded) as refused:
        _enter(admission, seconds=10)

    assert refused.value.retry_after_seconds >= 1
    assert refused.value.numbers["queue_limit"] == 1
    assert admission.waiting == 1


async def test_what_would_be_refused_whatever_it_is_is_known_before() -> None:
    admission = Admission([_place(budget=1000, max_open=1)], max_waiting=4)
    _enter(admission)
    for _ in range(3):
        admission.check_queue(0, batch=True)
        _enter(admission)

    with pytest.raises(Overloaded):  # a quarter of the queue is for interactive work
        admission.check_queue(0, batch=True)
    admission.check_queue(0, batch=False)
    _enter(admission)
    with pytest.raises(Overloaded) as refused:
        admission.check_queue(0, batch=False)

    assert refused.value.numbers["queued"] == 4
    assert admission.waiting == 4


async def test_a_full_queue_keeps_nobody_from_a_place_that_is_free() -> None:
    admission = Admission([_place(budget=100, max_open=2)], max_waiting=1)
    _enter(admission, state=60)
    _enter(admission, state=60)
    assert admission.waiting == 1

    admission.check_queue(0, batch=False)
    with pytest.raises(Overloaded):  # another one is on its way to that place
        admission.check_queue(1, batch=False)
    assert _enter(admission, state=20).place is not None
    with pytest.raises(Overloaded):
        admission.check_queue(0, batch=False)


async def test_a_run_that_no_device_could_hold_is_refused_at_once() -> None:
    admission = Admission([_place(budget=100)], 10)

    with pytest.raises(LimitExceeded) as refused:
        _enter(admission, 60, 60)

    assert refused.value.numbers["limit"] == 100
    assert admission.idle.is_set()


async def test_nobody_is_placed_on_a_device_whose_worker_is_down() -> None:
    place = _place(up=False)
    admission = Admission([place], 10)
    ticket = _enter(admission)
    assert ticket.place is None

    place.up = True
    admission.advance()

    assert await asyncio.wait_for(admission.wait(ticket), 5) is place


async def test_the_device_with_the_least_to_do_is_taken() -> None:
    admission = Admission([_place("one"), _place("two")], 10)

    names = [_enter(admission, seconds=seconds).place for seconds in (5, 1, 1, 1)]

    assert [place.name for place in names if place] == ["one", "two", "two", "two"]


async def test_closing_refuses_those_who_wait_and_those_who_come() -> None:
    admission = Admission([_place(max_open=1)], 10)
    _enter(admission)
    waiting = asyncio.create_task(admission.wait(_enter(admission)))

    admission.close()

    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        _enter(admission)


async def test_a_waiter_that_is_cancelled_makes_room_for_the_next() -> None:
    admission = Admission([_place(max_open=1)], 10)
    running, gone, next_one = (_enter(admission) for _ in range(3))
    task = asyncio.create_task(admission.wait(gone))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    admission.leave(gone)
    admission.leave(running)

    assert next_one.place is not None
    admission.leave(next_one)
    assert admission.idle.is_set()


async def test_a_queue_full_of_batch_work_has_room_for_interactive_work() -> None:
    admission = Admission([_place(max_open=4)], max_waiting=8)
    for _ in range(4):
        _enter(admission)
    with pytest.raises(Overloaded) as refused:
        for _ in range(20):
            _enter(admission, batch=True)
    assert refused.value.numbers["queue_limit"] == 6
    assert _enter(admission).place is None
    assert admission.waiting == 7


async def test_those_who_fit_do_not_wait_for_one_whose_device_is_gone() -> None:
    large, small = _place("large", budget=100, max_open=2, up=False), _place("small", budget=10)
    admission = Admission([large, small], 100)
    waits = _enter(admission, 90)
    for _ in range(2 * MAX_OVERTAKEN):
        admission.leave(_enter(admission, 1))
    assert _enter(admission, 1).place is small

    large.up = True
    admission.advance()
    assert waits.place is large


async def test_a_place_that_waits_for_its_model_keeps_nobody_out_for_long() -> None:
    now = 0.0
    admission = Admission([_place(max_open=2)], 100, clock=lambda: now)
    for _ in range(2):  # their callers have made no call yet: the model is being fetched
        assert _enter(admission).place is not None
    other = _enter(admission)
    assert other.place is None
    now = LEFT_ALONE_SECONDS + 0.1
    admission.advance()
    assert other.place is not None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(0, 120), st.integers(0, 120)),
            st.tuples(st.just("leave"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("flip"), st.integers(0, 1), st.just(0)),
        ),
        max_size=60,
    )
)
def test_no_bound_is_ever_passed_and_nothing_is_lost(actions: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        places = [_place("one", 100, 3), _place("two", 80, 2)]
        admission, tickets = Admission(places, 4), list[Ticket]()
        for action, a, b in actions:
            if action == "enter":
                with contextlib.suppress(Overloaded, LimitExceeded):
                    tickets.append(_enter(admission, a, b))
            elif action == "leave" and tickets:
                admission.leave(tickets.pop(a % len(tickets)))
            elif action == "flip":
                places[a].up = not places[a].up
                admission.advance()
            for place in places:
                assert len(place.tickets) <= place.max_open
                assert place.reserved_bytes <= place.budget_bytes
            assert admission.waiting <= 4
            assert admission.open + admission.waiting == len(tickets)
            assert admission.idle.is_set() == (not tickets)
        for place in places:
            place.up = True
        while tickets:
            admission.advance()
            placed = [ticket for ticket in tickets if ticket.place is not None]
            assert placed, "with every device up and nothing open, the head of the queue fits"
            admission.leave(placed[0])
            tickets.remove(placed[0])

    asyncio.run(run())
