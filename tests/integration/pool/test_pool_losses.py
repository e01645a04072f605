"""A worker is lost in moments in which something is on its way to it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pool_tools import (
    MODEL,
    StartPool,
    children,
    kill_worker,
    make_image,
    make_plan,
    run_in_process,
    run_rows,
)

from upscaled_server.engine.engine import Engine

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_rows_that_were_being_copied_when_the_worker_died_reach_the_next_one(
    start_pool: StartPool, engine: Engine
) -> None:
    plan = make_plan(400, 450)
    image = make_image(plan, np.uint16)
    assert image.nbytes > 1 << 20  # they are copied in a thread
    copies = threading.Event()
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        threads = ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(threads)
        blocked = loop.run_in_executor(None, copies.wait)
        feeding = asyncio.create_task(run.feed(image))
        await asyncio.sleep(0.05)
        await kill_worker(pool)
        copies.set()
        await blocked
        await feeding
        rows = await run_rows(run, image[:0])

    np.testing.assert_array_equal(rows, run_in_process(engine, plan, image))


async def test_a_worker_whose_end_is_given_up_half_way_leaves_no_process(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        (supervisor,) = pool._fleet
        worker = await supervisor.available()
        os.kill(worker.pid, signal.SIGSTOP)  # so that it does not leave when it is asked to
        ending = asyncio.create_task(worker.end())
        await asyncio.sleep(0.05)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(ending, 5)
        assert worker.lost.is_set()
        assert worker.pid not in children()
