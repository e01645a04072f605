"""A worker dies, and nobody notices: its runs are computed again, and give the same rows."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import numpy as np
import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    kill_worker,
    make_bands,
    make_image,
    make_plan,
    run_image,
    run_in_process,
    run_rows,
    steps_at_worker,
    until,
)

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import ProcessingFailed, WorkerLost
from upscaled_server.pool import replay
from upscaled_server.tiling.plan import RunPlan

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    "plan",
    [
        make_plan(40, 50),
        make_plan(40, 300, tile_height=20),
        make_plan(60, 200, tile_height=20, tile_width=25),
        make_bands(40, 420, 8),
    ],
    ids=["whole", "strips", "tiles", "bands"],
)
@pytest.mark.parametrize("small", [True, False], ids=["fed at once", "fed step by step"])
async def test_a_run_that_lost_its_worker_again_and_again_gives_the_same_bytes(
    start_pool: StartPool, engine: Engine, plan: RunPlan, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(replay, "SMALL_BYTES", 0)
    image = make_image(plan)
    expected = run_in_process(engine, plan, image)
    fed, rows, kills = 0, list[Any](), 0
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        while not run.done:
            if wanted := run.rows_wanted or run.rows_welcome:
                await run.feed(image[fed : fed + wanted])
                fed += wanted
                continue
            if kills < 3 and sum(map(len, rows)) >= kills * expected.shape[0] // 3:
                await kill_worker(pool)
                kills += 1
            rows.append((await run.step()).copy())

    np.testing.assert_array_equal(np.concatenate(rows), expected)
    assert kills == (1 if plan.way == "whole" else 3)


async def test_what_is_kept_for_it_is_bounded() -> None:
    plan = make_bands(64, 20_000, 16)
    kept = replay.Kept(plan)
    delivered = 0
    for row in range(0, plan.height, 50):
        kept.append(np.zeros((50, 64, 3), np.uint8))
        kept.deliver(max(0, row - plan.halo) * 4 - delivered)
        delivered = kept.delivered
        assert kept.nbytes <= replay.kept_bytes(plan)
    assert kept.restart().first > 19_000
    assert kept.restart().first % plan.tile_height == 0


async def test_a_run_that_would_have_to_keep_too_much_ends_with_its_worker(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(40, 200, tile_height=20)
    monkeypatch.setattr(replay, "MAX_KEPT_BYTES", 1000)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        await run.feed(make_image(plan))
        await kill_worker(pool)
        with pytest.raises(WorkerLost):
            await run_rows(run, make_image(plan)[:0])


async def test_all_runs_of_a_worker_that_is_killed_go_on_with_the_next(
    start_pool: StartPool, handle: Handle, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan(40, 80, tile_height=20)
    handle.tell("hold")
    async with start_pool(steps_ahead=1) as pool:
        running = [asyncio.create_task(run_image(pool, plan)) for _ in range(4)]
        await handle.until_held()
        await until(lambda: pool.stats.waiting_steps == 3)
        await kill_worker(pool)
        handle.untell("hold")

        images = await asyncio.gather(*running)
        assert pool.stats.worker_restarts == 1
        await until(lambda: pool.stats.open_runs == 0)
    for rows in images:
        np.testing.assert_array_equal(rows, run_in_process(engine, plan, make_image(plan)))
    assert "SIGKILL" in caplog.text


async def test_a_step_that_was_asked_for_ahead_is_lost_with_its_worker_and_not_its_rows(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    plan = make_bands(40, 1600, 8)
    handle.tell("hold")
    async with start_pool() as pool:
        running = asyncio.create_task(run_image(pool, plan))
        await until(lambda: steps_at_worker(pool) == 2)
        handle.untell("hold")
        await until(lambda: len(handle.steps) > 3)
        handle.tell("hold")
        await until(lambda: steps_at_worker(pool) == 2)
        await kill_worker(pool)
        handle.untell("hold")
        rows = await running
        await until(lambda: pool.stats.open_runs == 0)
        assert steps_at_worker(pool) == 0
    np.testing.assert_array_equal(rows, run_in_process(engine, plan, make_image(plan)))


async def test_a_caller_who_leaves_takes_the_step_that_was_asked_for_ahead_along(
    start_pool: StartPool, handle: Handle
) -> None:
    plan = make_bands(40, 260, 8)
    handle.tell("hold")
    async with start_pool() as pool:
        running = asyncio.create_task(run_image(pool, plan))
        await handle.until_held()
        await until(lambda: steps_at_worker(pool) == 2)
        running.cancel()
        await asyncio.wait([running])
        handle.untell("hold")
        await until(lambda: pool.stats.open_runs == 0)
        assert steps_at_worker(pool) == 0
    assert handle.steps == [40]


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (make_plan(44, 40), make_plan(40, 80, tile_height=20)),
        (make_bands(44, 260, 8), make_bands(40, 260, 8)),
    ],
    ids=["pieces", "bands"],
)
async def test_work_that_ends_workers_twice_fails_and_the_work_beside_it_does_not(
    start_pool: StartPool, handle: Handle, engine: Engine, bad: RunPlan, good: RunPlan
) -> None:
    handle.tell("crash", "44")
    async with start_pool() as pool:
        outcomes = await asyncio.gather(
            run_image(pool, bad), *(run_image(pool, good) for _ in range(3)), return_exceptions=True
        )
        assert pool.stats.worker_restarts == 2

    assert type(outcomes[0]) is ProcessingFailed
    assert "again and again" in str(outcomes[0])
    for rows in outcomes[1:]:
        assert not isinstance(rows, BaseException)
        np.testing.assert_array_equal(rows, run_in_process(engine, good, make_image(good)))


async def test_work_that_hangs_twice_fails_and_the_next_is_done(
    start_pool: StartPool, handle: Handle
) -> None:
    handle.tell("hold")
    async with start_pool(step_limit_seconds=0.3, heartbeat_seconds=0.1) as pool:
        with pytest.raises(ProcessingFailed, match="again and again"):
            await run_image(pool, make_plan(16, 16))
        handle.untell("hold")
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)


async def test_rows_that_were_delivered_stay_what_they_are_whoever_is_dead(
    start_pool: StartPool, engine: Engine
) -> None:
    plan = make_plan(40, 80, tile_height=20)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        await run.feed(make_image(plan))
        first = await run.step()
        (supervisor,) = pool._fleet
        os.kill((await supervisor.available()).pid, signal.SIGKILL)
        await until(lambda: not pool.stats.workers_up)

        expected = run_in_process(engine, plan, make_image(plan))
        np.testing.assert_array_equal(first, expected[: first.shape[0]])


async def test_a_worker_whose_device_failed_ends_and_the_next_one_computes_the_same(
    start_pool: StartPool, engine: Engine, handle: Handle
) -> None:
    plan = make_plan(40, 80, tile_height=20)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        handle.tell("hold")
        computing = asyncio.create_task(run_rows(run, make_image(plan)))
        await handle.until_held()
        handle.tell("fail", "DeviceFailed")
        handle.untell("hold")
        await until(lambda: pool.stats.workers_up == 0)
        handle.untell("fail")
        rows = await computing
        assert pool.stats.worker_restarts == 1
    assert np.array_equal(rows, run_in_process(engine, plan, make_image(plan)))
