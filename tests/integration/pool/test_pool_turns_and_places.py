"""Runs share a device: in turn, within bounds, and none holds up another's small requests."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    make_bands,
    make_image,
    make_plan,
    run_image,
    run_in_process,
    steps_at_worker,
    until,
)

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import LimitExceeded, Overloaded
from upscaled_server.pool import claim

pytestmark = pytest.mark.usefixtures("nothing_left")


async def _steps_of_two(start_pool: StartPool, handle: Handle) -> tuple[list[int], int, int]:
    """Of which images the steps are, in order; and the one that begins, and the other."""
    one, two = make_plan(40, 100, tile_height=20), make_plan(44, 100, tile_height=20)
    handle.tell("hold")
    async with start_pool(steps_ahead=1) as pool:
        running = [asyncio.create_task(run_image(pool, plan)) for plan in (one, two)]
        await handle.until_held()
        await until(lambda: pool.stats.waiting_steps == 1)
        handle.untell("hold")
        await asyncio.gather(*running)
    steps = handle.steps
    return steps, steps[0], one.width + two.width - steps[0]


async def test_two_runs_get_their_steps_in_turn(
    start_pool: StartPool, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "AT_A_STRETCH_SECONDS", 0.0)
    steps, first, second = await _steps_of_two(start_pool, handle)
    assert steps == [first, second] * 5


async def test_of_two_small_images_of_a_caller_the_first_is_finished_first(
    start_pool: StartPool, handle: Handle
) -> None:
    steps, first, second = await _steps_of_two(start_pool, handle)
    assert steps == [first] * 5 + [second] * 5


async def test_steps_in_bands_are_computed_beside_each_other_and_come_out_the_same(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    plans = [make_bands(40 + 8 * number, 260, 8) for number in range(4)]
    handle.tell("hold")
    async with start_pool() as pool:
        running = [asyncio.create_task(run_image(pool, plan)) for plan in plans]
        await until(lambda: len(handle.steps) == 2)  # neither has ended
        await asyncio.sleep(0.05)
        assert len(handle.steps) == 2
        handle.untell("hold")
        images = await asyncio.gather(*running)
    for plan, rows in zip(plans, images, strict=True):
        np.testing.assert_array_equal(rows, run_in_process(engine, plan, make_image(plan)))


async def test_whoever_comes_goes_before_a_step_that_was_asked_for_ahead(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    plan, other = make_bands(40, 260, 8), make_plan(44, 40)
    handle.tell("hold")
    async with start_pool() as pool:
        running = [asyncio.create_task(run_image(pool, plan))]
        await until(lambda: steps_at_worker(pool) == 2)
        running.append(asyncio.create_task(run_image(pool, other)))
        await until(lambda: steps_at_worker(pool) == 3)
        handle.untell("hold")
        images = await asyncio.gather(*running)
    assert handle.steps == [40, 44] + [40] * (plan.steps - 1)
    for each, rows in zip((plan, other), images, strict=True):
        np.testing.assert_array_equal(rows, run_in_process(engine, each, make_image(each)))


async def test_nobody_waits_for_the_long_step_of_another(start_pool: StartPool, handle: Handle) -> None:
    plan, other = make_plan(40, 40), make_plan(44, 80, tile_height=20)
    handle.tell("hold")
    async with start_pool() as pool:
        running = asyncio.create_task(run_image(pool, plan))
        await handle.until_held()

        await pool.load("real-esrgan-x4-plus-anime")
        async with pool.open(MODEL, other, 8) as run:
            await run.feed(make_image(other)[: run.rows_wanted])
            assert run.rows_wanted == 0
        await until(lambda: pool.stats.open_runs == 1)
        (supervisor,) = pool._fleet
        await (await supervisor.available()).call("ping")

        assert not running.done()
        assert handle.steps == [40]
        handle.untell("hold")
        await running
    assert handle.steps == [40]


async def test_waiting_runs_know_their_place_and_too_many_are_refused(
    start_pool: StartPool, handle: Handle
) -> None:
    plan = make_plan(40, 40)
    handle.tell("hold")
    async with start_pool(max_open_runs=1, max_waiting_runs=2) as pool:
        running = asyncio.create_task(run_image(pool, plan))
        await handle.until_held()
        openings = [pool.open(MODEL, plan, 8) for _ in range(2)]
        waiting = [asyncio.create_task(opening.__aenter__()) for opening in openings]
        await until(lambda: pool.waiting == 2)

        assert [opening.position for opening in openings] == [1, 2]
        assert 0 < openings[0].wait_seconds < openings[1].wait_seconds
        with pytest.raises(Overloaded) as refused:
            await run_image(pool, plan)
        assert refused.value.retry_after_seconds > 0

        waiting[0].cancel()
        await until(lambda: openings[1].position == 1)
        handle.untell("hold")
        await running
        await waiting[1]
        assert openings[1].position == 0
        await openings[1].__aexit__(None, None, None)


async def test_a_run_that_can_never_fit_is_refused(start_pool: StartPool) -> None:
    async with start_pool(memory_budget_bytes=64 << 20) as pool:
        with pytest.raises(LimitExceeded, match="memory"):
            await run_image(pool, make_plan(1000, 1000))
        assert pool.plan(MODEL, 1000, 1000).working_bytes <= 64 << 20


async def test_memory_of_open_runs_stays_within_the_budget(start_pool: StartPool, handle: Handle) -> None:
    # 67 MB of working memory, counted once, and 2.6 MB of state each.
    plan = make_plan(160, 160)
    handle.tell("hold")
    async with start_pool(memory_budget_bytes=75 << 20) as pool:
        running = [asyncio.create_task(run_image(pool, plan)) for _ in range(6)]
        await handle.until_held()
        await until(lambda: pool.stats.open_runs + pool.stats.waiting_runs == 6)
        (place,) = pool._places.values()
        assert 1 < pool.stats.open_runs < 6
        assert place.reserved_bytes <= 75 << 20
        handle.untell("hold")
        await asyncio.gather(*running)
