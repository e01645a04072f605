"""Workers die, hang and do not start; the service goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from pool_tools import (
    MODEL,
    Handle,
    StartPool,
    children,
    make_plan,
    run_image,
    until,
)

from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.errors import FailedPrecondition, Unavailable, WorkerLost
from upscaled_server.pool import fleet
from upscaled_server.pool.devices import Device
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.settings import PoolSettings

pytestmark = pytest.mark.usefixtures("nothing_left")


async def _worker_pid(pool: Pool) -> int:
    (supervisor,) = pool._fleet
    return (await supervisor.available()).pid


async def test_a_worker_that_dies_while_a_run_is_opened_is_replaced_unseen(
    start_pool: StartPool, handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_pool() as pool:
        handle.tell("die")
        rows = await run_image(pool, make_plan(32, 32))

    assert rows.shape == (128, 128, 3)
    assert "SIGABRT" in caplog.text
    assert "in open_run" in caplog.text  # the traceback of a crash in native code reaches the log


async def test_a_worker_that_does_not_answer_is_replaced(start_pool: StartPool) -> None:
    async with start_pool(heartbeat_seconds=0.1, heartbeat_limit_seconds=1.0) as pool:
        pid = await _worker_pid(pool)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: not pool.stats.workers_up)
        await until(lambda: pool.stats.workers_up)
        assert await _worker_pid(pool) != pid


async def test_while_no_worker_comes_up_callers_are_told_and_it_is_tried_on(
    start_pool: StartPool, handle: Handle
) -> None:
    async with start_pool() as pool:
        handle.tell("refuse")
        os.kill(await _worker_pid(pool), signal.SIGKILL)
        await until(lambda: not pool.ready)
        with pytest.raises(Unavailable):
            await run_image(pool, make_plan(16, 16))
        with pytest.raises(Unavailable):
            await run_image(pool, make_plan(16, 16))

        handle.untell("refuse")
        await until(lambda: pool.ready)
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)


async def test_a_pool_that_cannot_start_says_why_and_leaves_nothing(
    start_pool: StartPool, handle: Handle
) -> None:
    handle.tell("refuse")
    with pytest.raises(FailedPrecondition, match="told not to start") as refused:
        async with start_pool():
            pass
    assert refused.value.numbers == {"told": True}
    assert children() == []


async def test_auto_goes_on_with_the_cpu_where_a_card_cannot_be_used(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cards = (
        Device("cuda:0", "cuda", "a card", 1, 8 << 30, 6 << 30),
        Device("cuda:1", "cuda", "a card", 1, 8 << 30, 6 << 30),
    )
    real = fleet.find_devices
    monkeypatch.setattr(
        fleet, "find_devices", lambda settings: real(settings) if settings.devices == "cpu" else cards
    )
    async with start_pool(devices="auto") as pool:
        assert [device.name for device in pool.devices] == ["cpu"]
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)
    assert "this torch knows no CUDA" in caplog.text

    with pytest.raises(FailedPrecondition, match="no CUDA"):
        async with start_pool(devices="cuda:0,cuda:1"):
            pass


async def test_stopping_lets_open_runs_finish_and_refuses_new_ones(
    handle: Handle, start_pool: StartPool
) -> None:
    plan = make_plan(40, 80, tile_height=20)
    handle.tell("hold")
    async with start_pool(max_open_runs=1) as pool:
        running = asyncio.create_task(run_image(pool, plan))
        await handle.until_held()
        waiting = asyncio.create_task(run_image(pool, plan))
        await until(lambda: pool.waiting == 1)

        closing = asyncio.create_task(pool.aclose(drain_seconds=60))
        with pytest.raises(Unavailable, match="stopping"):
            await waiting
        with pytest.raises(Unavailable, match="stopping"):
            await run_image(pool, plan)
        assert not pool.ready
        handle.untell("hold")
        assert (await running).shape == (320, 160, 3)
        await closing
        assert children() == []


async def test_stopping_does_not_wait_for_ever(handle: Handle, start_pool: StartPool) -> None:
    handle.tell("hold")
    async with start_pool() as pool:
        running = asyncio.create_task(run_image(pool, make_plan(40, 40)))
        await handle.until_held()
        await pool.aclose(drain_seconds=0.05)
        with pytest.raises(WorkerLost):
            await running
        assert children() == []


async def test_signals_of_the_terminal_are_the_servers_business(start_pool: StartPool) -> None:
    async with start_pool() as pool:
        pid = await _worker_pid(pool)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert (await run_image(pool, make_plan(16, 16))).shape == (64, 64, 3)
        assert await _worker_pid(pool) == pid


async def test_a_worker_does_not_outlive_a_server_that_was_killed(handle: Handle, tmp_path: Path) -> None:
    handle.tell("hold")
    here = Path(__file__).parent
    server = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [sys.executable, str(here / "in_worker" / "pool_test_server.py"), str(here), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with server.stdout or nullcontext() as output:
            worker = int(await asyncio.to_thread(output.readline)) if output else 0
        await handle.until_held()
    finally:
        server.kill()
        await asyncio.to_thread(server.wait)

    await until(lambda: not Path(f"/proc/{worker}/status").exists() or "Z (" in _state(worker))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "Z ("


def test_a_worker_imports_neither_grpc_nor_the_settings() -> None:
    code = "import sys, upscaled_server.pool.worker, upscaled_server.pool.factory; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not modules & {"grpc", "pydantic", "pydantic_settings", "torch", "ncnn", "PIL"}


async def test_a_pool_that_was_never_started_says_so(weights: StoreOptions) -> None:
    pool = Pool(PoolSettings(devices="cpu"), weights)
    with pytest.raises(Unavailable):
        pool.plan(MODEL, 10, 10)
    assert not pool.ready
    await pool.aclose()
