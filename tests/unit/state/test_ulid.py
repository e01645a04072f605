"""Ids that sort by time and cannot be guessed."""

from __future__ import annotations

import time

import pytest

from upscaled_server.state import ulid
from upscaled_server.state.store import check_key
from upscaled_server.state.ulid import first_ulid, is_ulid, milliseconds_of, new_ulid


def test_ids_grow_also_within_a_millisecond() -> None:
    made = [new_ulid() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert all(map(is_ulid, made))


def test_ids_grow_also_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_ulid()
    now = time.time_ns()
    monkeypatch.setattr(ulid.time, "time_ns", lambda: now - 3600 * 10**9)
    assert new_ulid() > before


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = milliseconds_of(new_ulid())
    assert before <= made <= time.time_ns() // 1_000_000 + 1
    assert milliseconds_of("01ARZ3NDEKTSV4RRFFQ69G5FAV") == 1469922850259  # the example of the specification


def test_the_first_id_of_a_moment_sorts_before_all_others_of_it() -> None:
    made = new_ulid()
    assert first_ulid(milliseconds_of(made)) <= made < first_ulid(milliseconds_of(made) + 1)


def test_an_id_is_a_key_and_a_file_name() -> None:
    check_key(f"inputs/{new_ulid()}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../../../etc/passwd",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
        "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        "81ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01arz3ndektsv4rrffq69g5fav",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV\n",
        "01ARZ3NDEKTSV4RRFFQ69G5FA\0",
        "٠1ARZ3NDEKTSV4RRFFQ69G5FAV",
        "0" * 1_000_000,
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    assert not is_ulid(text)
