"""What the tests of the pool share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.engine import Engine
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.run import PoolRun
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.tiling.plan import RunPlan

MODEL = "real-esrgan-animevideo-v3"
IN_WORKER = Path(__file__).with_name("in_worker")

StartPool = Callable[..., AbstractAsyncContextManager[Pool]]


class Handle:
    """What the tests tell the engine in the worker, see `in_worker/pool_test_engine.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self, what: str, text: str = "") -> None:
        (self.folder / what).write_text(text)

    def untell(self, what: str) -> None:
        (self.folder / what).unlink()

    @property
    def steps(self) -> list[int]:
        """Widths of the images whose steps have begun, in order."""
        file = self.folder / "steps"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def lines(self, name: str) -> list[str]:
        """What the engine has noted."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    async def until_held(self) -> None:
        """A step is being computed, and will be until `untell("hold")`."""
        await until((self.folder / "held").exists)
        (self.folder / "held").unlink()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - files and processes have no event to wait for
            await asyncio.sleep(0.005)


def cpu_settings(**settings: Any) -> PoolSettings:
    return PoolSettings(**{"devices": "cpu", "threads": 2, "worker_nice": 0, **settings})


def make_plan(
    width: int, height: int, tile_height: int | None = None, tile_width: int | None = None
) -> RunPlan:
    """Whole, or in tiles of that size."""
    whole = tile_height is None
    return RunPlan(
        way="whole" if whole else "tiles",
        width=width,
        height=height,
        scale=4,
        tile_width=tile_width or width,
        tile_height=tile_height or height,
        halo=18,
        multiple=1,
        parallel=1,
        threads=1,
        bytes_per_input_pixel=2600,
    )


def make_bands(width: int, height: int, rows: int) -> RunPlan:
    """In bands of so many rows, two at a time."""
    return RunPlan(
        way="bands",
        width=width,
        height=height,
        scale=4,
        tile_width=width,
        tile_height=rows,
        halo=17,
        multiple=1,
        parallel=2,
        threads=1,
        bytes_per_input_pixel=6000,
        steps_per_band=2,
        carried_bytes_per_column=8000,
    )


def make_image(plan: RunPlan, dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    rng = np.random.default_rng(plan.width)
    return rng.integers(0, np.iinfo(dtype).max, (plan.height, plan.width, 3), dtype=dtype)


async def run_rows(run: PoolRun, image: NDArray[Any]) -> NDArray[Any]:
    """The whole result of a run."""
    fed, finished = 0, []
    while not run.done:
        if wanted := run.rows_wanted or run.rows_welcome:
            await run.feed(image[fed : fed + wanted])
            fed += wanted
        else:
            finished.append((await run.step()).copy())
    return np.concatenate(finished)


async def run_image(pool: Pool, plan: RunPlan, model: str = MODEL) -> NDArray[Any]:
    async with pool.open(model, plan, 8) as run:
        return await run_rows(run, make_image(plan))


async def kill_worker(pool: Pool) -> None:
    """As the kernel does it when memory is short. Returns when the pool has noticed."""
    (supervisor,) = pool._fleet
    worker = await supervisor.available()
    os.kill(worker.pid, signal.SIGKILL)
    await worker.lost.wait()


def steps_at_worker(pool: Pool) -> int:
    """Steps that the worker was asked for and has not answered."""
    (supervisor,) = pool._fleet
    return 0 if supervisor.worker is None else len(supervisor.worker._calls._steps)


def run_in_process(engine: Engine, plan: RunPlan, image: NDArray[Any], bits: Any = 8) -> NDArray[Any]:
    run = engine.open_run(MODEL, plan, bits)
    fed, finished = 0, []
    while not run.done:
        wanted = run.rows_wanted
        if wanted:
            run.feed(image[fed : fed + wanted])
            fed += wanted
        else:
            finished.append(run.step())
    run.close()
    return np.concatenate(finished)


def held() -> frozenset[str]:
    """Every descriptor, mapping of rows and child process of this process, by a name that stays the same."""
    found = {f"child {pid}" for pid in children()}
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.add(f"descriptor {each.name}: {each.readlink()}")
    maps = Path("/proc/self/maps").read_text().splitlines()
    return frozenset(found.union(line for line in maps if "memfd:upscaled" in line))


def children() -> list[int]:
    """Child processes of this one, zombies included, but for the stores that other tests share as long as
    they run."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                rest = (each / "stat").read_text().rpartition(")")[2]
                command = (each / "cmdline").read_bytes()
            except OSError:
                continue
            shared = b"nats-server" in command or b"moto.server" in command
            if int(rest.split()[1]) == os.getpid() and not shared:
                found.append(int(each.name))
    return found
