"""A caller may leave at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random

import numpy as np
import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    make_image,
    make_plan,
    run_image,
    run_in_process,
    run_rows,
    until,
)

from upscaled_server.engine.engine import Engine

pytestmark = pytest.mark.usefixtures("nothing_left")


async def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_step_that_waits_for_its_turn_is_dropped(start_pool: StartPool, handle: Handle) -> None:
    handle.tell("hold")
    async with start_pool(steps_ahead=1) as pool:
        running = asyncio.create_task(run_image(pool, make_plan(40, 40)))
        await handle.until_held()
        gone = asyncio.create_task(run_image(pool, make_plan(44, 40)))
        await until(lambda: pool.stats.waiting_steps == 1)

        await _cancel(gone)
        await until(lambda: pool.stats.open_runs == 1)  # although the other's step still runs
        assert pool.stats.waiting_steps == 0

        handle.untell("hold")
        await running
    assert handle.steps == [40]


async def test_a_step_that_was_given_to_the_worker_but_has_not_begun_never_begins(
    start_pool: StartPool, handle: Handle
) -> None:
    handle.tell("hold")
    async with start_pool(steps_ahead=2) as pool:
        running = asyncio.create_task(run_image(pool, make_plan(40, 40)))
        await handle.until_held()
        gone = asyncio.create_task(run_image(pool, make_plan(44, 40)))
        await until(lambda: pool.stats.open_runs == 2 and pool.stats.waiting_steps == 0)
        await asyncio.sleep(0.05)  # its step is with the worker by now; either way it must not begin
        await _cancel(gone)
        handle.untell("hold")
        await running
        await until(lambda: pool.stats.open_runs == 0)
    assert handle.steps == [40]


async def test_a_step_that_runs_ends_and_is_thrown_away(start_pool: StartPool, handle: Handle) -> None:
    plan = make_plan(40, 80, tile_height=20)
    handle.tell("hold")
    async with start_pool() as pool:
        gone = asyncio.create_task(run_image(pool, plan))
        await handle.until_held()
        await _cancel(gone)
        assert pool.stats.open_runs == 1  # its memory is not free before the worker says so

        handle.untell("hold")
        await until(lambda: pool.stats.open_runs == 0)
        assert handle.steps == [40]
        (supervisor,) = pool._fleet
        worker = await supervisor.available()
        await until(lambda: worker.buffers_away == 0)
        answer = await worker.call("ping")
        assert answer.result["runs"] == 0
        assert (await run_image(pool, plan)).shape == (320, 160, 3)


async def test_a_step_that_is_only_waited_for_less_long_loses_nothing(
    start_pool: StartPool, engine: Engine, handle: Handle
) -> None:
    plan = make_plan(40, 80, tile_height=20)
    image = make_image(plan)
    handle.tell("hold")
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        await run.feed(image)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run.step(), 0.01)
        handle.untell("hold")
        rows = await run_rows(run, image[:0])

    np.testing.assert_array_equal(rows, run_in_process(engine, plan, image))


async def test_of_a_caller_who_left_one_unit_more_is_computed_at_most(
    start_pool: StartPool, handle: Handle
) -> None:
    large, other = make_plan(200, 3000, tile_height=20), make_plan(40, 60, tile_height=20)
    async with start_pool() as pool:
        async with pool.open(MODEL, large, 8, caller="leaves") as run:
            await run.feed(make_image(large))
            for _ in range(3):
                await run.step()
            begun = handle.steps.count(large.width)
        for _ in range(5):
            await run_image(pool, other)
        await until(lambda: pool.stats.open_runs == 0)

        assert handle.steps.count(large.width) <= begun + 1
        assert handle.steps.count(other.width) == 5 * other.steps
        assert pool.stats.waiting_runs == pool.stats.waiting_steps == 0
        assert pool.stats.seconds_pending == 0
        assert pool.open(MODEL, other, 8).wait_seconds == 0


async def test_a_run_that_is_still_referred_to_keeps_no_rows_when_it_is_closed(start_pool: StartPool) -> None:
    plan = make_plan(40, 80, tile_height=20)
    async with start_pool() as pool:
        async with pool.open(MODEL, plan, 8) as run:
            await run.feed(make_image(plan)[:40])
            assert run._lives.kept.nbytes == 40 * 40 * 3
        await until(lambda: pool.stats.open_runs == 0)
        assert run._lives.kept.nbytes == 0


async def test_two_hundred_leave_at_random_moments(
    start_pool: StartPool, engine: Engine, handle: Handle
) -> None:
    handle.tell("uncollected")
    chance = random.Random(7)
    plan = make_plan(48, 60, tile_height=20)

    async with start_pool(max_open_runs=6, max_waiting_runs=300) as pool:

        async def leave() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run_image(pool, plan), chance.random() * 0.5)

        await asyncio.gather(*(leave() for _ in range(200)))
        await until(lambda: pool.stats.open_runs == pool.stats.waiting_runs == pool.stats.waiting_steps == 0)
        (supervisor,) = pool._fleet
        worker = await supervisor.available()
        answer = await worker.call("ping")
        assert answer.result["runs"] == 0
        await until(lambda: worker.buffers_away == 0)
        assert pool.stats.worker_restarts == 0
        rows = await run_image(pool, plan)

    np.testing.assert_array_equal(rows, run_in_process(engine, plan, make_image(plan)))
