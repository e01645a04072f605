"""A pool with the real engine, a handle on its worker, and what must be the same before and after."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pool_tools import IN_WORKER, MODEL, Handle, StartPool, children, cpu_settings, held, until

from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.pool.devices import find_devices
from upscaled_server.pool.factory import build_engine, engine_config
from upscaled_server.pool.pool import Pool


@pytest.fixture
def handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handle:
    folder = tmp_path / "handle"
    folder.mkdir()
    monkeypatch.setenv("POOL_TEST_FOLDER", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(IN_WORKER), prepend=os.pathsep)
    return Handle(folder)


@pytest.fixture
def weights(tmp_path: Path) -> StoreOptions:
    return StoreOptions(tmp_path / "cache", download=False)


@pytest.fixture
def start_pool(handle: Handle, weights: StoreOptions) -> StartPool:  # noqa: ARG001 - sets the environment
    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Pool]:
        pool = Pool(cpu_settings(**settings), weights, engine="pool_test_engine:build")
        await pool.start()
        try:
            yield pool
        finally:
            await pool.aclose(drain_seconds=5)

    return start


@pytest.fixture
def engine(weights: StoreOptions) -> Iterator[Engine]:
    """The same engine in this process."""
    (device,) = find_devices(cpu_settings())
    engine = build_engine(engine_config(device, weights))
    engine.load(MODEL)
    yield engine
    engine.close()


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """After the test no descriptor, mapping or child process is there that was not there before."""
    # The loop's threads and descriptors exist from here on.
    await asyncio.gather(*(asyncio.to_thread(gc.collect) for _ in range(8)))
    before = held()
    yield
    left = frozenset[str]()

    def clean() -> bool:
        # What is new, not how many: what tests before this one left to a thread of grpc or to the garbage
        # collector may go at any time.
        nonlocal left
        gc.collect()
        left = held() - before
        return not left

    try:
        await until(clean)
    except TimeoutError:
        pytest.fail(f"the test left {sorted(left)}")
    assert children() == []
