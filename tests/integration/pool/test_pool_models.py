"""What a worker has in its memory, and what it is given together."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    kill_worker,
    make_image,
    make_plan,
    run_image,
    run_in_process,
    until,
)

from upscaled_server.engine.engine import Engine

pytestmark = pytest.mark.usefixtures("nothing_left")

OTHER = "real-esrgan-x4-plus-anime"


async def test_a_worker_is_ready_with_the_models_that_were_asked_for(
    start_pool: StartPool, handle: Handle
) -> None:
    async with start_pool(warm_models=MODEL) as pool:
        assert pool.loaded(MODEL)
        assert handle.lines("steps") == ["32"]  # it has been tried


async def test_a_worker_that_follows_another_has_its_models(start_pool: StartPool, handle: Handle) -> None:
    async with start_pool() as pool:
        await run_image(pool, make_plan(16, 16))
        await kill_worker(pool)
        await until(lambda: pool.stats.workers_up)
        assert pool.loaded(MODEL)
    assert handle.lines("models") == [f"+{MODEL}"] * 2
    assert handle.lines("steps") == ["16", "32"]


async def test_a_model_that_cannot_be_made_ready_does_not_keep_the_worker_down(
    start_pool: StartPool, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_pool(warm_models="nonesuch, real-esrgan-x2-plus") as pool:
        assert pool.stats.workers_up == 1
    assert "nonesuch could not be made ready" in caplog.text
    assert "downloading is switched off" in caplog.text


async def test_models_beyond_the_memory_for_them_make_room_least_recently_used_first(
    start_pool: StartPool, handle: Handle
) -> None:
    async with start_pool(model_budget_bytes=1) as pool:
        async with pool.open(MODEL, make_plan(16, 16), 8):
            await pool.load(OTHER)
            assert pool.loaded(MODEL)  # in use
        await until(lambda: pool.stats.open_runs == 0)
        await pool.load("real-esrgan-x4-plus")
        await until(lambda: not pool.loaded(OTHER) and not pool.loaded(MODEL))
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)
        await asyncio.gather(*(pool.load(name) for name in [OTHER, MODEL] * 3))
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)
    assert f"-{OTHER}" in handle.lines("models")


async def test_small_images_of_one_shape_are_computed_together(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    plan, other = make_plan(24, 20), make_plan(30, 20)
    handle.tell("hold")
    handle.tell("together")
    async with start_pool(steps_ahead=1) as pool:
        first = asyncio.create_task(run_image(pool, other))
        await handle.until_held()
        running = [asyncio.create_task(run_image(pool, plan)) for _ in range(5)]
        await until(lambda: pool.stats.waiting_steps == 5)
        running[2].cancel()
        await until(lambda: pool.stats.waiting_steps == 4)
        handle.untell("hold")
        await first
        outcomes = await asyncio.gather(*running, return_exceptions=True)

    assert "24 24 24 24" in handle.lines("steps")
    expected = run_in_process(engine, plan, make_image(plan))
    for number, rows in enumerate(outcomes):
        if number != 2:
            assert not isinstance(rows, BaseException)
            np.testing.assert_array_equal(rows, expected)
