"""A run cannot go on as it was begun, and begins anew on the same worker: nobody notices."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    kill_worker,
    make_bands,
    make_image,
    run_image,
    run_in_process,
    run_rows,
    steps_at_worker,
    until,
)

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import MustBeginAnew, OutOfMemory
from upscaled_server.pool import replay
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.run import PoolRun

pytestmark = pytest.mark.usefixtures("nothing_left")

PLAN = make_bands(40, 600, 32)


async def _first_rows(run: PoolRun, image: NDArray[Any]) -> tuple[list[NDArray[Any]], int]:
    """Some rows of a run, and how many it was fed for them."""
    fed, rows = 0, list[NDArray[Any]]()
    while sum(map(len, rows)) < 800:
        if wanted := run.rows_wanted or run.rows_welcome:
            await run.feed(image[fed : fed + wanted])
            fed += wanted
        else:
            rows.append((await run.step()).copy())
    return rows, fed


async def _runs_at_worker(pool: Pool) -> int:
    (supervisor,) = pool._fleet
    return int((await (await supervisor.available()).call("ping")).result["runs"])


@pytest.mark.parametrize("small", [True, False], ids=["fed at once", "fed step by step"])
@pytest.mark.parametrize("begun", [False, True], ids=["at the beginning", "in the middle"])
async def test_bands_without_enough_memory_go_on_in_lower_ones(
    start_pool: StartPool,
    handle: Handle,
    engine: Engine,
    small: bool,
    begun: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not small:
        monkeypatch.setattr(replay, "SMALL_BYTES", 0)
    image = make_image(PLAN)
    expected = run_in_process(engine, PLAN, image)
    async with start_pool() as pool:
        async with pool.open(MODEL, PLAN, 8) as run:
            rows, fed = await _first_rows(run, image) if begun else ([], 0)
            handle.tell("low", "8")
            rows.append(await run_rows(run, image[fed:]))
            assert run.plan.tile_height == 8
            assert await _runs_at_worker(pool) == 1
        await until(lambda: pool.stats.open_runs == 0)
        assert await _runs_at_worker(pool) == 0
        assert steps_at_worker(pool) == pool.stats.waiting_steps == 0
        (device,) = pool.device_stats.values()
        assert device.counts.out_of_memory == 2
        assert pool.stats.worker_restarts == 0
    result = np.concatenate(rows)
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert handle.lines("bands") == ["32", "16", "8"]


async def test_lower_bands_that_lose_their_worker_are_computed_again_as_they_were(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    image = make_image(PLAN)
    handle.tell("low", "8")
    async with start_pool() as pool, pool.open(MODEL, PLAN, 8) as run:
        rows, fed = await _first_rows(run, image)
        await kill_worker(pool)
        rows.append(await run_rows(run, image[fed:]))
        assert pool.stats.worker_restarts == 1
    lower = make_bands(40, 600, 8)
    np.testing.assert_array_equal(np.concatenate(rows), run_in_process(engine, lower, image))
    assert handle.lines("bands") == ["32", "16", "8", "8"]


@pytest.mark.parametrize("opening", [False, True], ids=["in the old life", "in the new one"])
async def test_a_caller_who_leaves_while_a_run_begins_anew_leaves_nothing(
    start_pool: StartPool, handle: Handle, opening: bool
) -> None:
    image = make_image(PLAN)
    async with start_pool() as pool:
        async with pool.open(MODEL, PLAN, 8) as run:
            _, fed = await _first_rows(run, image)
            handle.tell("low", "8")
            old = run._life
            assert old is not None
            computing = asyncio.create_task(run_rows(run, image[fed:]))
            while not old.over or (opening and run._life is old):  # noqa: ASYNC110 - not to come too late
                await asyncio.sleep(0)
            computing.cancel()
            await asyncio.wait([computing])
        await until(lambda: pool.stats.open_runs == 0)
        assert await _runs_at_worker(pool) == 0
        assert steps_at_worker(pool) == pool.stats.waiting_steps == 0
        handle.untell("low")
        assert (await run_image(pool, PLAN)).shape == (2400, 160, 3)


async def test_when_bands_cannot_be_lower_the_caller_is_told_and_nothing_is_left(
    start_pool: StartPool, handle: Handle
) -> None:
    handle.tell("low", "0")
    async with start_pool() as pool:
        with pytest.raises(OutOfMemory, match="too high"):
            await run_image(pool, PLAN)
        await until(lambda: pool.stats.open_runs == 0)
        assert await _runs_at_worker(pool) == 0
        assert steps_at_worker(pool) == pool.stats.waiting_steps == 0
        handle.untell("low")
        assert (await run_image(pool, PLAN)).shape == (2400, 160, 3)
    assert handle.lines("bands") == ["32", "16", "8", "4", "32"]


async def test_a_run_of_which_not_enough_is_kept_ends_as_it_is(
    start_pool: StartPool, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_KEPT_BYTES", 1000)
    handle.tell("low", "8")
    async with start_pool() as pool:
        with pytest.raises(OutOfMemory):
            await run_image(pool, PLAN)
        handle.untell("low")
        handle.tell("anew", "1")
        with pytest.raises(MustBeginAnew):
            await run_image(pool, PLAN)
        assert (await run_image(pool, PLAN)).shape == (2400, 160, 3)


async def test_a_run_of_which_not_enough_is_kept_any_more_when_it_would_begin_anew_ends(
    start_pool: StartPool, handle: Handle
) -> None:
    image = make_image(PLAN)
    async with start_pool() as pool, pool.open(MODEL, PLAN, 8) as run:
        rows, fed = await _first_rows(run, image)
        wait_closed, kept = run._turns.wait_closed, run._lives.kept

        async def fed_too_much_meanwhile() -> None:
            await wait_closed()
            kept.drop()

        run._turns.wait_closed = fed_too_much_meanwhile  # type: ignore[method-assign]
        handle.tell("anew", "1")
        with pytest.raises(MustBeginAnew):
            await run_rows(run, image[fed:])
        assert rows


async def test_a_run_whose_state_is_lost_begins_anew_and_gives_the_same_bytes(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    image = make_image(PLAN)
    expected = run_in_process(engine, PLAN, image)
    async with start_pool() as pool:
        async with pool.open(MODEL, PLAN, 8) as run:
            rows, fed = await _first_rows(run, image)
            handle.tell("anew", "2")
            rows.append(await run_rows(run, image[fed:]))
        np.testing.assert_array_equal(np.concatenate(rows), expected)
        assert handle.lines("bands") == ["32", "32", "32"]

        handle.tell("anew", "1000")
        with pytest.raises(MustBeginAnew):
            await run_image(pool, PLAN)
        assert len(handle.lines("bands")) == 6, "a precision can be lowered twice"
        await until(lambda: pool.stats.open_runs == 0)
        assert await _runs_at_worker(pool) == 0


async def test_a_run_tells_the_precision_that_it_used_last(start_pool: StartPool, handle: Handle) -> None:
    image = make_image(PLAN)
    async with start_pool() as pool, pool.open(MODEL, PLAN, 8) as run:
        assert run.provenance == await pool.provenance(MODEL)
        assert run.provenance.precision == "fp32"
        _, fed = await _first_rows(run, image)
        handle.tell("precision", "bf16")
        await run.step()
        assert run.provenance == replace(await pool.provenance(MODEL), precision="bf16")
        # The model is in another precision than when the run was opened, and is the same.
        await kill_worker(pool)
        await run_rows(run, image[fed:])
        assert run.provenance == await pool.provenance(MODEL)


async def test_bands_that_overflow_half_precision_are_finished_in_another(
    start_pool: StartPool, handle: Handle, engine: Engine
) -> None:
    pytest.importorskip("torch")
    handle.tell("lane")
    handle.tell("overflow")
    plan = replace(make_bands(40, 260, 32), parallel=1, steps_per_band=1)
    # Smooth: networks blow up noise, and with it what half precision rounds away.
    image = np.broadcast_to(np.linspace(20, 180, 260)[:, None, None], (260, 40, 3)).astype(np.uint8)
    image[200:] += 70  # too bright from here on
    expected = run_in_process(engine, plan, image)
    async with start_pool() as pool:
        async with pool.open(MODEL, plan, 8) as run:
            assert run.provenance.precision == "fp16"
            rows = await run_rows(run, image)
            assert run.provenance.precision == "fp32"
        (device,) = pool.device_stats.values()
        assert device.counts.nan_fallbacks == 2, "bf16 before fp32"
        await until(lambda: pool.stats.open_runs == 0)
        assert await _runs_at_worker(pool) == 0
    difference = np.abs(rows.astype(int) - expected)
    assert difference.max() <= 2, "half precision above"
    assert difference[800:].max() <= 1
    assert handle.lines("bands") == ["32", "32", "32"]
