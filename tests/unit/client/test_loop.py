"""The private event loop survives finalisers and interrupts that come at the worst of moments."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any

import pytest

from upscaled._errors import ClientClosedError
from upscaled._loop import LoopThread


async def _nothing() -> None:
    return


def test_a_finaliser_that_runs_while_its_thread_holds_the_lock_does_not_block() -> None:
    loop, ran = LoopThread(), threading.Event()
    loop.run(_nothing())

    async def finish() -> None:
        ran.set()

    def collected_in_the_middle() -> None:
        with loop._lock:
            loop.call_soon(finish())

    thread = threading.Thread(target=collected_in_the_middle, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert ran.wait(10)
    loop.stop(_nothing())


def test_a_signal_that_does_not_wake_who_waits_is_noticed_all_the_same() -> None:
    """As one that comes just before the wait begins: here another thread is interrupted by it."""
    loop, cancelled = LoopThread(), threading.Event()
    loop.run(_nothing())

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    signals = {signal.SIGUSR1}
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    sender = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    sender.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run(work())
        assert cancelled.is_set()
    finally:
        sender.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        signal.signal(signal.SIGUSR1, before)
        loop.stop(_nothing())


def test_a_finaliser_that_runs_in_the_loops_own_thread_is_done_too() -> None:
    loop, ran = LoopThread(), threading.Event()

    async def finish() -> None:
        ran.set()

    async def collect_here() -> None:
        loop.call_soon(finish())
        await asyncio.sleep(0)

    loop.run(collect_here())
    assert ran.wait(10)
    loop.stop(_nothing())


def test_a_client_that_is_collected_in_its_own_thread_ends_there_without_being_waited_for() -> None:
    ended = threading.Event()

    class Owner:
        """As a client: stopped when it is collected, unless it was closed."""

        def __init__(self) -> None:
            self.loop = LoopThread()
            self.finalizer = weakref.finalize(self, self.loop.stop, self._last())

        @staticmethod
        async def _last() -> None:
            ended.set()

    owners = [Owner()]

    async def collect_here() -> threading.Thread:
        owners.clear()
        gc.collect()
        return threading.current_thread()

    loop = owners[0].loop
    began = time.monotonic()
    thread = loop.run(collect_here())
    assert time.monotonic() - began < 5
    assert ended.wait(10)
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(ClientClosedError):
        loop.run(_nothing())


def test_a_finaliser_after_the_end_is_dropped() -> None:
    loop = LoopThread()
    loop.run(_nothing())
    loop.stop(_nothing())
    work = _nothing()
    loop.call_soon(work)
    assert work.cr_frame is None


@pytest.mark.parametrize("handed_over", [False, True])
def test_an_interrupt_while_work_is_handed_over_ends_it_in_its_own_thread(
    monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    loop, where = LoopThread(), list[str]()
    loop.run(_nothing())
    assert loop._loop is not None
    schedule, begun = loop._loop.call_soon_threadsafe, threading.Event()

    def interrupted(*work: Any) -> None:
        monkeypatch.undo()
        if handed_over:
            schedule(*work)
            assert begun.wait(10)
        raise KeyboardInterrupt

    async def works() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            where.append(threading.current_thread().name)

    monkeypatch.setattr(loop._loop, "call_soon_threadsafe", interrupted)
    work = works()
    with pytest.raises(KeyboardInterrupt):
        loop.run(work)
    assert work.cr_frame is None
    assert where == (["upscaled"] if handed_over else [])
    loop.stop(_nothing())


def test_an_interrupt_anywhere_in_the_waiting_leaves_the_loop_running() -> None:
    loop, tried = LoopThread(), 0
    loop.run(_nothing())
    while _interrupted_at(tried + 1, loop):
        tried += 1
        follower = threading.Thread(target=loop.run, args=(_nothing(),), daemon=True)
        follower.start()
        follower.join(10)
        assert not follower.is_alive(), f"the loop hangs after an interrupt at step {tried} of the waiting"
    assert tried >= 4
    loop.stop(_nothing())


def _interrupted_at(step: int, loop: LoopThread) -> bool:
    """Whether the waiting has so many steps: the calls and returns, at which Python looks for signals."""
    steps = itertools.count(1)
    modules = ("_loop.py", "threading.py", "_base.py")

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        ours = frame.f_code.co_filename.endswith(modules) and event in ("call", "return")
        if ours and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    work = asyncio.sleep(0.02)
    sys.settrace(trace)
    try:
        loop.run(work)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        work.close()
    return False
