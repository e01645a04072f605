"""Faults on purpose, and what callers notice of them."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
from pool_tools import MODEL, StartPool, make_image, make_plan, run_image, run_in_process, run_rows, until
from pydantic import ValidationError

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.pool.settings import PoolSettings

pytestmark = pytest.mark.usefixtures("nothing_left")

PLAN = make_plan(40, 120, tile_height=20)


async def test_workers_that_crash_and_hang_and_dawdle_are_not_noticed(
    start_pool: StartPool, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    expected = run_in_process(engine, PLAN, make_image(PLAN))
    async with start_pool(
        faults="crash:0.015,hang:0.005,slow:0.01", step_limit_seconds=2, heartbeat_seconds=0.1
    ) as pool:
        images = await asyncio.gather(*(run_image(pool, PLAN) for _ in range(12)), return_exceptions=True)

    wrong = [rows for rows in images if not isinstance(rows, np.ndarray)]
    # Rarely one is hit twice over the same rows, and told so; a crash takes two steps with it.
    assert len(wrong) <= 2
    assert all("again and again" in str(error) for error in wrong)
    for rows in images:
        if isinstance(rows, np.ndarray):
            np.testing.assert_array_equal(rows, expected)
    assert "FAULTS ON PURPOSE" in caplog.text


@pytest.mark.parametrize(("fault", "error"), [("oom", OutOfMemory), ("nan", ProcessingFailed)])
async def test_other_faults_fail_the_image_they_happen_to_and_no_other(
    start_pool: StartPool, engine: Engine, fault: str, error: type[Exception]
) -> None:
    async with start_pool(faults=f"{fault}:0.1") as pool:
        images = await asyncio.gather(*(run_image(pool, PLAN) for _ in range(30)), return_exceptions=True)
        assert pool.stats.worker_restarts == 0

    kinds = Counter(type(image) for image in images)
    assert set(kinds) == {np.ndarray, error}
    expected = run_in_process(engine, PLAN, make_image(PLAN))
    for image in images:
        if isinstance(image, np.ndarray):
            np.testing.assert_array_equal(image, expected)


async def test_without_the_setting_nothing_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    assert PoolSettings().faults == ""
    assert "FAULTS" not in caplog.text


@pytest.mark.parametrize("faults", ["smoke:0.1", "crash:2", "crash:x", "crash=0.1"])
def test_faults_that_are_none_are_refused(faults: str) -> None:
    with pytest.raises(ValidationError):
        PoolSettings(faults=faults)


async def test_killing_the_worker_again_and_again_under_traffic_changes_no_byte(
    start_pool: StartPool, engine: Engine
) -> None:
    plans = [make_plan(40 + 4 * n, 60, tile_height=20) for n in range(4)]
    expected = [run_in_process(engine, plan, make_image(plan)) for plan in plans]
    kills = 0
    async with start_pool() as pool:

        async def kill() -> None:
            nonlocal kills
            (supervisor,) = pool._fleet
            while True:
                worker = await supervisor.available()
                await asyncio.sleep(0.5)
                worker.kill()
                kills += 1

        limit = asyncio.Semaphore(8)

        async def request(number: int) -> bool:
            async with limit:
                rows = await run_image(pool, plans[number % 4])
            return bool(np.array_equal(rows, expected[number % 4]))

        killing = asyncio.create_task(kill())
        right = await asyncio.gather(*(request(number) for number in range(100)))
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await until(lambda: pool.stats.open_runs == pool.stats.waiting_steps == 0)
    assert right == [True] * 100
    assert kills >= 1


async def test_a_caller_who_leaves_gives_the_device_back_within_one_unit(start_pool: StartPool) -> None:
    large = make_plan(200, 4000, tile_height=40)
    async with start_pool() as pool:
        async with pool.open(MODEL, large, 8, priority="batch") as run:
            await run.feed(make_image(large))
            await run.step()
            steps = run.steps_done
        await until(lambda: pool.stats.open_runs == 0)
        assert pool.stats.waiting_steps == 0
        assert pool.stats.seconds_pending == 0
        assert run.steps_done == steps
        (supervisor,) = pool._fleet
        assert (await (await supervisor.available()).call("ping")).result["runs"] == 0


async def test_batch_work_gives_way_to_interactive_work(start_pool: StartPool) -> None:
    large, small = make_plan(100, 1000, tile_height=20), make_plan(40, 60, tile_height=20)
    async with start_pool() as pool, pool.open(MODEL, large, 8, priority="batch") as run:
        rest = asyncio.create_task(run_rows(run, make_image(large)))
        await until(lambda: run.steps_done > 2)
        before = run.steps_done
        for _ in range(5):
            await run_image(pool, small)
        # Three units each, and between two of them at most one of the other's.
        assert run.steps_done - before <= 5 * 4
        assert not rest.done()
        await rest
