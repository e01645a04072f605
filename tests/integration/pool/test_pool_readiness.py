"""When it makes sense to send images: models are warm; load and single losses play no part."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from pool_tools import MODEL, Handle, StartPool, kill_worker, make_plan, run_image, until

from upscaled_server.pool import supervisor
from upscaled_server.pool.pool import Pool

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_a_pool_without_models_to_warm_is_ready_when_its_worker_is_there(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        assert pool.ready
    assert not pool.ready


async def test_it_is_ready_only_once_every_model_to_warm_is_warm(
    start_pool: StartPool, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WARM_PAUSE_SECONDS", 0.05)
    handle.tell("unloadable", MODEL)
    async with start_pool(warm_models=MODEL) as pool:
        assert pool.stats.workers_up == 1
        assert not pool.ready
        said = asyncio.create_task(_first_two(pool))
        await until(lambda: len(handle.lines("models")) > 2)  # it is tried again
        assert not pool.ready
        handle.untell("unloadable")
        assert await asyncio.wait_for(said, 30) == [False, True]
        assert pool.ready
        assert pool.loaded(MODEL)


async def test_load_does_not_change_it(start_pool: StartPool, handle: Handle) -> None:
    handle.tell("hold")
    async with start_pool(max_open_runs=1, warm_models=MODEL) as pool:
        running = [asyncio.create_task(run_image(pool, make_plan(40, 40))) for _ in range(5)]
        await handle.until_held()
        await until(lambda: pool.waiting == 4)
        assert pool.ready
        handle.untell("hold")
        await asyncio.gather(*running)


async def test_an_image_that_ends_its_worker_does_not_turn_the_others_away(start_pool: StartPool) -> None:
    async with start_pool(warm_models=MODEL) as pool:
        await kill_worker(pool)
        assert not pool.stats.workers_up
        assert pool.ready
        await until(lambda: pool.stats.workers_up)
        assert pool.loaded(MODEL)


async def test_it_ends_while_no_worker_can_be_started_and_comes_back(
    start_pool: StartPool, handle: Handle
) -> None:
    async with start_pool() as pool:
        readiness = pool.readiness()
        assert await anext(readiness)
        handle.tell("refuse")
        (each,) = pool._fleet
        os.kill((await each.available()).pid, signal.SIGKILL)
        assert await asyncio.wait_for(anext(readiness), 30) is False
        handle.untell("refuse")
        assert await asyncio.wait_for(anext(readiness), 30) is True
        await readiness.aclose()


async def _first_two(pool: Pool) -> list[bool]:
    readiness = pool.readiness()
    found = [await anext(readiness), await anext(readiness)]
    await readiness.aclose()
    return found
