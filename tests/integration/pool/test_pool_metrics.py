"""What the pool counts of its devices and callers, as the worker tells it."""

from __future__ import annotations

import asyncio

import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    kill_worker,
    make_image,
    make_plan,
    run_image,
    run_rows,
    until,
)
from prometheus_client.parser import text_string_to_metric_families

from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.stats import DeviceStats
from upscaled_server.telemetry import metrics

pytestmark = pytest.mark.usefixtures("nothing_left")

PLAN = make_plan(40, 120, tile_height=20)
CALLERS = 1000


def device(pool: Pool) -> DeviceStats:
    (only,) = pool.device_stats.values()
    return only


def series(name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Every series of a name, by its labels."""
    families = text_string_to_metric_families(metrics.exposition({}).decode())
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


async def test_busy_seconds_and_pixels_are_those_of_the_steps(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        before = device(pool).counts
        assert (before.busy_seconds, before.pixels) == (0, 0)
        await run_image(pool, PLAN)
        counts = device(pool).counts
        assert counts.pixels == pytest.approx(PLAN.computed_pixels)
        assert counts.busy_seconds > 0


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [("oom", OutOfMemory, "out_of_memory"), ("nan", ProcessingFailed, "nan_fallbacks")],
)
async def test_what_goes_wrong_on_the_device_is_told_with_the_answer(
    start_pool: StartPool, fault: str, error: type[Exception], told: str
) -> None:
    async with start_pool(faults=f"{fault}:1") as pool:
        for number in range(1, 4):
            with pytest.raises(error):
                await run_image(pool, PLAN)
            counts = device(pool).counts
            # One more each, and nothing of the other kind.
            assert {"out_of_memory": 0, "nan_fallbacks": 0, told: number} == {
                "out_of_memory": counts.out_of_memory,
                "nan_fallbacks": counts.nan_fallbacks,
            }


async def test_counts_go_on_over_the_death_of_a_worker(start_pool: StartPool) -> None:
    async with start_pool(heartbeat_seconds=0.05) as pool:
        await run_image(pool, PLAN)
        await until(lambda: device(pool).counts.cpu_seconds)
        before = device(pool)
        pixels, busy, cpu = before.counts.pixels, before.counts.busy_seconds, before.counts.cpu_seconds
        assert before.worker_restarts == 0
        assert before.counts.resident_bytes > 10e6
        await kill_worker(pool)
        assert device(pool).counts.resident_bytes == 0
        await run_image(pool, PLAN)
        after = device(pool)
        assert after.worker_restarts == 1
        assert after.counts.pixels == pytest.approx(pixels + PLAN.computed_pixels)
        assert after.counts.busy_seconds > busy
        await until(lambda: device(pool).counts.resident_bytes > 10e6)
        assert device(pool).counts.cpu_seconds > cpu


async def test_images_computed_together_are_one_unit(start_pool: StartPool, handle: Handle) -> None:
    plan, other = make_plan(24, 20), make_plan(30, 20)
    handle.tell("hold")
    handle.tell("together")
    before = _batches()
    async with start_pool(steps_ahead=1) as pool:
        first = asyncio.create_task(run_image(pool, other))
        await handle.until_held()
        together = [asyncio.create_task(run_image(pool, plan)) for _ in range(4)]
        await until(lambda: pool.stats.waiting_steps == 4)
        handle.untell("hold")
        await asyncio.gather(first, *together)
        assert device(pool).counts.pixels == pytest.approx(other.computed_pixels + 4 * plan.computed_pixels)
    after = _batches()
    # One by itself, four together.
    assert {bound: after[bound] - before.get(bound, 0) for bound in after} == {
        **dict.fromkeys(("1.0", "2.0", "3.0"), 1),
        **dict.fromkeys(("4.0", "6.0", "8.0", "12.0", "16.0", "+Inf"), 2),
    }


def _batches() -> dict[str, float]:
    """By the bound of the bucket."""
    return {dict(labels)["le"]: value for labels, value in series("upscaled_batch_size_bucket").items()}


async def test_loads_are_timed_once_for_each_worker(start_pool: StartPool) -> None:
    def loads() -> float:
        return series("upscaled_model_load_duration_seconds_count").get((("model", MODEL),), 0)

    before = loads()
    async with start_pool() as pool:
        await asyncio.gather(*(pool.load(MODEL) for _ in range(3)))
        await pool.load(MODEL)
        assert loads() == before + 1
        assert device(pool).models_loaded == 1
        await kill_worker(pool)
        await pool.load(MODEL)
        assert loads() == before + 2


async def test_queues_are_told_by_class_until_they_are_empty(start_pool: StartPool, handle: Handle) -> None:
    async with start_pool(max_open_runs=2) as pool:
        await pool.load(MODEL)
        handle.tell("hold")
        running = [asyncio.create_task(run_image(pool, PLAN)) for _ in range(4)]
        await handle.until_held()
        await until(lambda: pool.stats.waiting_runs == 2)
        await asyncio.sleep(0.01)
        queue = pool.stats.queues["interactive"]
        assert queue.pixels == pytest.approx(4 * 40 * 120)
        assert queue.device_seconds > 0
        assert queue.oldest_seconds >= 0.01
        assert pool.stats.limit_device_seconds == 600
        batch = pool.stats.queues["batch"]
        assert (batch.units, batch.pixels, batch.device_seconds, batch.oldest_seconds) == (0, 0, 0, 0)
        handle.untell("hold")
        await asyncio.gather(*running)
        await until(lambda: not pool.stats.open_runs)
        queue = pool.stats.queues["interactive"]
        assert (queue.units, queue.pixels, queue.device_seconds, queue.oldest_seconds) == (0, 0, 0, 0)


@pytest.mark.timeout(300)
async def test_a_thousand_callers_make_a_bounded_number_of_series(start_pool: StartPool) -> None:
    plan = make_plan(8, 8)
    image = make_image(plan)

    async def call(pool: Pool, caller: str) -> None:
        async with pool.open(MODEL, plan, 8, caller=caller) as run:
            await run_rows(run, image)

    name = "upscaled_caller_device_seconds_total"
    before = sum(series(name).values())
    async with start_pool() as pool:
        for start in range(0, CALLERS, 20):
            await asyncio.gather(*(call(pool, f"caller-{start + each}") for each in range(20)))
        busy = device(pool).counts.busy_seconds
    found = series(name)
    assert len(found) == 101
    assert (("caller", "other"),) in found
    # Nobody's seconds are lost.
    assert sum(found.values()) - before == pytest.approx(busy)
    text = metrics.exposition({}).decode()
    assert sum(not line.startswith("#") for line in text.splitlines()) < 1000
