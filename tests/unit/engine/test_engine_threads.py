"""Threads that are there before there is work for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from upscaled_server.engine.threads import started_threads


def test_all_threads_are_there_and_submitting_starts_no_other() -> None:
    with started_threads(3, "there-before") as executor:
        before = _named("there-before")
        assert len(before) == 3
        barrier = threading.Barrier(3, timeout=10)
        for each in [executor.submit(barrier.wait) for _ in range(3)]:
            each.result(10)
        assert _named("there-before") == before


def test_where_threads_cannot_be_had_it_says_so_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    adjust = ThreadPoolExecutor._adjust_thread_count

    def refuse_the_third(executor: Any) -> None:
        if len(executor._threads) == 2:
            raise RuntimeError("can't start new thread")
        adjust(executor)

    monkeypatch.setattr(ThreadPoolExecutor, "_adjust_thread_count", refuse_the_third)
    with pytest.raises(RuntimeError, match="new thread"):
        started_threads(3, "cannot-be-had")
    for thread in _named("cannot-be-had"):
        thread.join(10)
    assert not _named("cannot-be-had")


def _named(prefix: str) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(prefix)}
