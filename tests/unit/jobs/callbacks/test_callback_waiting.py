"""Receivers have their turns, whoever else is slow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.jobs.callbacks.index import Due
from upscaled_server.jobs.callbacks.waiting import Bounds, Waiting

BOUNDS = Bounds(total=8, per_caller=5, per_origin=2)


def due(number: int, caller: str = "anna", origin: str = "https://a:443", at: int = 1000) -> Due:
    return Due(at, caller, f"{number:026}", origin)


def taken(waiting: Waiting, now: int = 1000) -> list[Due]:
    found = []
    while (each := waiting.take(now)) is not None:
        found.append(each)
    return found


def test_nothing_begins_before_it_is_due() -> None:
    waiting = Waiting(BOUNDS)
    waiting.add(due(1, at=2000))
    assert waiting.take(1999) is None
    assert waiting.next_milliseconds() == 2000
    assert waiting.take(2000) == due(1, at=2000)


def test_one_receiver_holds_its_places_only() -> None:
    waiting = Waiting(BOUNDS)
    for number in range(100):
        waiting.add(due(number))
    waiting.add(due(100, origin="https://b:443"))
    assert [each.origin for each in taken(waiting)] == ["https://a:443", "https://b:443", "https://a:443"]


def test_one_caller_holds_its_places_only_however_many_receivers_it_has() -> None:
    waiting = Waiting(BOUNDS)
    for number in range(100):
        waiting.add(due(number, "mallory", f"https://{number}:443"))
    waiting.add(due(100, "anna"))
    callers = [each.caller for each in taken(waiting)]
    assert (callers.count("mallory"), callers.count("anna")) == (5, 1)


def test_callers_share_the_places_of_a_receiver_in_turn() -> None:
    waiting = Waiting(Bounds(total=8, per_caller=8, per_origin=1))
    for number in range(6):
        waiting.add(due(number, "anna" if number < 4 else "ben"))
    order = []
    while (each := waiting.take(1000)) is not None:
        order.append(each.caller)
        waiting.done(each)
    assert order == ["anna", "ben", "anna", "ben", "anna", "anna"]


def test_what_is_here_already_is_not_taken_twice() -> None:
    waiting = Waiting(BOUNDS)
    waiting.add(due(1))
    waiting.add(due(1))
    (only,) = taken(waiting)
    waiting.add(due(1))
    assert waiting.take(1000) is None
    waiting.done(only)
    assert len(waiting) == 0


def test_what_could_not_be_done_comes_later() -> None:
    waiting = Waiting(BOUNDS)
    waiting.add(due(1))
    (only,) = taken(waiting)
    waiting.done(only)
    waiting.add(only, at=5000)
    assert waiting.take(4999) is None
    assert waiting.take(5000) == only


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 50)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_everything_has_its_turn_and_no_bound_is_passed(
    entries: list[tuple[str, str, int]], chance: object
) -> None:
    waiting, running, done = Waiting(BOUNDS), list[Due](), list[Due]()
    everything = [due(number, caller, origin, at) for number, (caller, origin, at) in enumerate(entries)]
    for each in everything:
        waiting.add(each)
    while len(done) < len(everything):
        running += taken(waiting)
        assert len(running) <= BOUNDS.total
        for caller in "ab":
            assert sum(each.caller == caller for each in running) <= BOUNDS.per_caller
        for origin in "xyz":
            assert sum(each.origin == origin for each in running) <= BOUNDS.per_origin
        finished = running.pop(chance.randrange(len(running)))  # type: ignore[attr-defined]
        waiting.done(finished)
        done.append(finished)
    assert sorted(each.job_id for each in done) == sorted(each.job_id for each in everything)
    assert len(waiting) == 0
