"""Who may open a run, and who waits for it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import LimitExceeded, Overloaded, Unavailable
from upscaled_server.pool.admission import Admission, Place, Ticket


def _place(name: str = "cpu", budget: int = 100, max_open: int = 4, up: bool = True) -> Place:
    return Place(name, budget, max_open, up)


def _enter(admission: Admission, state: int = 10, working: int = 0, seconds: float = 1.0) -> Ticket:
    return admission.enter(state_bytes=state, working_bytes=working, seconds=seconds)


async def test_state_adds_up_and_working_memory_counts_once() -> None:
    admission = Admission([_place(budget=100)], 10)

    first, second = _enter(admission, 20, 50), _enter(admission, 20, 60)
    third = _enter(admission, 20, 10)

    assert first.place is not None
    assert second.place is not None
    assert third.place is None  # 60 + 60 would not fit, although 40 + 60 did


async def test_whoever_comes_first_is_admitted_first_even_if_a_later_one_would_fit() -> None:
    admission = Admission([_place(budget=100)], 10)
    running = _enter(admission, 60)
    large, small = _enter(admission, 90), _enter(admission, 5)
    assert (admission.position(large), admission.position(small)) == (1, 2)

    admission.leave(running)

    assert large.place is not None
    assert small.place is not None
    assert admission.position(small) == 0


async def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    admission = Admission([_place(max_open=1)], max_waiting=1)
    _enter(admission, seconds=10)
    _enter(admission, seconds=10)

    with pytest.raises(Overloaded) as refused:
        _enter(admission, seconds=10)

    assert refused.value.retry_after_seconds >= 1
    assert refused.value.numbers["queue_limit"] == 1
    assert admission.waiting == 1


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
