"""The pool gives what the engine gives."""

from __future__ import annotations

import asyncio
from typing import Any

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
    run_rows,
    steps_at_worker,
    until,
)

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import (
    FailedPrecondition,
    NotFound,
    OutOfMemory,
    ProcessingFailed,
    WeightsUnavailable,
)
from upscaled_server.pool import replay

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    "plan",
    [make_plan(64, 48), make_plan(64, 96, tile_height=20), make_plan(90, 70, tile_height=32, tile_width=40)],
    ids=["whole", "strips", "tiles"],
)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
async def test_rows_are_those_of_an_engine_in_this_process(
    start_pool: StartPool, engine: Engine, plan: Any, dtype: Any, bits: Any
) -> None:
    image = make_image(plan, dtype)
    async with start_pool() as pool, pool.open(MODEL, plan, bits) as run:
        rows = await run_rows(run, image)

    np.testing.assert_array_equal(rows, run_in_process(engine, plan, image, bits))
    assert run.steps_done == plan.steps


@pytest.mark.parametrize(
    "plan",
    [make_plan(64, 48), make_plan(90, 70, tile_height=32, tile_width=40), make_bands(64, 96, 8)],
    ids=["whole", "tiles", "bands"],
)
async def test_rows_that_a_worker_finishes_are_sent_without_a_copy(
    start_pool: StartPool, handle: Handle, plan: Any
) -> None:
    async with start_pool() as pool:
        assert (await run_image(pool, plan)).shape == (plan.height * 4, plan.width * 4, 3)
    assert len(handle.lines("steps")) >= plan.steps
    assert handle.lines("copied") == []


async def test_many_runs_at_once_do_not_mix(start_pool: StartPool, engine: Engine) -> None:
    plans = [make_plan(40 + width, 60, tile_height=25) for width in range(8)]
    async with start_pool(max_open_runs=5) as pool:
        results = await asyncio.gather(*(run_image(pool, plan) for plan in plans))
        assert pool.stats.open_runs + pool.stats.waiting_runs <= len(plans)

    for plan, rows in zip(plans, results, strict=True):
        np.testing.assert_array_equal(rows, run_in_process(engine, plan, make_image(plan)))


async def test_a_chain_feeds_one_pass_with_the_rows_of_the_other(
    start_pool: StartPool, engine: Engine
) -> None:
    first, second = make_plan(24, 20), make_plan(96, 80, tile_height=30)
    async with start_pool() as pool, pool.open_chain(MODEL, [first, second], 8) as (one, two):
        between = await run_rows(one, make_image(first))
        rows = await run_rows(two, between)

    expected = run_in_process(engine, second, run_in_process(engine, first, make_image(first)))
    np.testing.assert_array_equal(rows, expected)


async def test_a_run_tells_what_it_is_computed_with_and_the_pool_how_fast(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        plan = pool.plan(MODEL, 64, 48)
        assert pool.seconds_per_pixel(MODEL) is None
        guess = pool.estimate_seconds(MODEL, plan)
        assert not pool.loaded(MODEL)
        async with pool.open(MODEL, plan, 8) as run:
            await run_rows(run, make_image(plan))

        assert run.provenance == await pool.provenance(MODEL)
        assert run.provenance.weights.origin == "package"
        assert pool.backends[:2] == ("ncnn", "torch")
        assert pool.loaded(MODEL)
        assert pool.seconds_per_pixel(MODEL) is not None
        assert pool.estimate_seconds(MODEL, plan) != guess


async def test_errors_of_the_engine_arrive_as_themselves(start_pool: StartPool, handle: Handle) -> None:
    plan = make_plan(32, 32)
    async with start_pool() as pool:
        with pytest.raises(WeightsUnavailable, match="downloading is switched off"):
            await pool.load("real-esrgan-x2-plus")
        with pytest.raises(NotFound):
            pool.plan("nonesuch", 10, 10)
        with pytest.raises(NotFound):
            await pool.load("nonesuch")

        handle.tell("fail", "OutOfMemory")
        with pytest.raises(ProcessingFailed, match="as told") as failed:
            await run_image(pool, plan)
        assert failed.value.reason == "OUT_OF_MEMORY"
        assert failed.value.numbers == {"device_bytes": 5}
        handle.untell("fail")
        assert (await run_image(pool, plan)).shape == (128, 128, 3)


async def test_an_error_that_nobody_foresaw_is_told_to_the_log_only(
    start_pool: StartPool, handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_pool() as pool:
        handle.tell("fail", "RuntimeError")
        with pytest.raises(ProcessingFailed) as failed:
            await run_image(pool, make_plan(32, 32))

    assert "secret" not in str(failed.value)
    assert "RuntimeError: an inner secret" in caplog.text


async def test_what_a_worker_writes_is_logged(
    start_pool: StartPool, handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    handle.tell("say", "first line\nsecond " + "x" * 20_000)
    async with start_pool() as pool:
        await run_image(pool, make_plan(32, 32))

    assert "first line" in caplog.text
    assert caplog.text.count("x") >= 20_000


async def test_wrong_use_is_refused_and_does_no_harm(start_pool: StartPool) -> None:
    plan = make_plan(32, 40, tile_height=20)
    image = make_image(plan)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        with pytest.raises(ProcessingFailed, match="more rows must be fed"):
            await run.step()
        with pytest.raises(ProcessingFailed):
            await run.feed(image[:, :5])
        await run_rows(run, image)
        with pytest.raises(ProcessingFailed, match="done"):
            await run.step()
        with pytest.raises(FailedPrecondition, match="in use"):
            await pool.unload(MODEL)
    with pytest.raises(ProcessingFailed, match="closed"):
        await run.step()


async def test_a_model_is_loaded_once_however_many_want_it_and_can_be_freed(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        found = await asyncio.gather(*(pool.load(MODEL) for _ in range(5)))
        assert len(set(found)) == 1
        assert await pool.unload(MODEL)
        assert not pool.loaded(MODEL)
        assert not await pool.unload(MODEL)
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)


async def test_rows_are_fed_while_a_step_is_computed(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    plan = make_bands(2000, 240, 8)
    image = make_image(plan)
    assert not replay.is_small(plan)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        fed = run.rows_wanted
        handle.tell("hold")
        await run.feed(image[:fed])
        step = asyncio.create_task(run.step())
        await handle.until_held()
        await asyncio.wait_for(run.feed(image[fed:]), 10)
        await until(lambda: steps_at_worker(pool) == 2)
        assert not step.done()
        handle.untell("hold")
        rows = [(await step).copy(), await run_rows(run, image[:0])]
    np.testing.assert_array_equal(np.concatenate(rows), run_in_process(engine, plan, image))


async def test_the_first_step_of_a_small_image_needs_its_first_rows_alone(
    start_pool: StartPool, engine: Engine
) -> None:
    plan = make_bands(40, 260, 8)
    image = make_image(plan)
    assert replay.is_small(plan)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        fed = run.rows_wanted
        assert 0 < fed < plan.height // 4
        await run.feed(image[:fed])
        rows = [(await run.step()).copy()]
        assert run.rows_welcome == plan.height - fed
        await run.feed(image[fed:])
        assert run.rows_welcome == 0
        rows.append(await run_rows(run, image[:0]))
    np.testing.assert_array_equal(np.concatenate(rows), run_in_process(engine, plan, image))


async def test_rows_that_the_worker_has_no_memory_for_end_the_run_with_that(
    start_pool: StartPool, handle: Handle
) -> None:
    plan = make_bands(40, 260, 8)
    async with start_pool() as pool, pool.open(MODEL, plan, 8) as run:
        handle.tell("full")
        await run.feed(make_image(plan))
        with pytest.raises(OutOfMemory):
            await run.step()
        with pytest.raises(OutOfMemory):
            await run.feed(make_image(plan)[:0])
        handle.untell("full")
        assert (await run_image(pool, plan)).shape == (260 * 4, 160, 3)
