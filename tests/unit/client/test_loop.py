"""The private event loop survives finalisers that run at the worst of moments."""

from __future__ import annotations

import asyncio
import threading

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


def test_a_finaliser_after_the_end_is_dropped() -> None:
    loop = LoopThread()
    loop.run(_nothing())
    loop.stop(_nothing())
    work = _nothing()
    loop.call_soon(work)
    assert work.cr_frame is None
