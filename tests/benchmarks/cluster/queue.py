"""What a job waits for the queue: to be put in, to be handed out, to be taken out for good."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.nats_servers import nats_cluster, settings_for
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.item import Item
from upscaled_server.state.nats.work.queue import WorkQueue

_START_SECONDS = 60.0
_TOGETHER = 32
_CALLERS = 20


def measure(samples: int) -> dict[str, Any]:
    """Milliseconds with three nodes of NATS on this machine, which share its cores."""
    with tempfile.TemporaryDirectory() as folder, nats_cluster(Path(folder)) as nodes:
        return asyncio.run(_measure(settings_for(list(nodes.values())), samples))


async def _measure(settings: ClusterSettings, samples: int) -> dict[str, Any]:
    ours, theirs = await _open(settings), await _open(settings)
    try:
        await _one_by_one(ours, theirs, samples // 10, "warm")
        alone = await _one_by_one(ours, theirs, samples, "alone")
        together = await _together(ours, theirs, samples)
    finally:
        await ours.aclose()
        await theirs.aclose()
    return {
        "nodes": 3,
        "one_job_at_a_time": {name: _summary(values) for name, values in alone.items()},
        f"{_TOGETHER}_jobs_at_once": {"jobs_per_second": round(together, 1), "ms_per_job": 1e3 / together},
    }


async def _open(settings: ClusterSettings) -> WorkQueue:
    """Nodes that have just started have no leader yet."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                return await WorkQueue.open(settings)
            except (FailedPrecondition, Unavailable):
                await asyncio.sleep(0.5)


def _item(name: str) -> Item:
    return Item(id=name, owner=f"caller-{hash(name) % _CALLERS}", urgent=True, cost=1.0)


async def _one_by_one(ours: WorkQueue, theirs: WorkQueue, samples: int, run: str) -> dict[str, list[float]]:
    """One replica publishes, another waits for work; nobody else is there."""
    found = defaultdict[str, list[float]](list)
    taking = asyncio.create_task(theirs.take())
    for number in range(samples):
        began = time.perf_counter()
        await ours.publish(_item(f"{run}-{number}"))
        published = time.perf_counter()
        lease = await taking
        assert lease is not None
        taken = time.perf_counter()
        await lease.done()
        done = time.perf_counter()
        taking = asyncio.create_task(theirs.take())
        for name, seconds in (
            ("publish", published - began),
            ("until_taken", taken - published),
            ("done", done - taken),
            ("all", done - began),
        ):
            found[name].append(seconds * 1e3)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    return found


async def _together(ours: WorkQueue, theirs: WorkQueue, samples: int) -> float:
    """Jobs per second from their publication to their end, so many in flight."""
    left, turns = iter(range(samples)), asyncio.Semaphore(2 * _TOGETHER)

    async def publish() -> None:
        for number in left:
            await turns.acquire()
            await ours.publish(_item(f"together-{number}"))

    ended, all_ended = 0, asyncio.Event()

    async def work() -> None:
        nonlocal ended
        while (lease := await theirs.take()) is not None:
            await lease.done()
            turns.release()
            ended += 1
            if ended == samples:
                all_ended.set()

    began = time.perf_counter()
    working = [asyncio.create_task(work()) for _ in range(_TOGETHER)]
    await asyncio.gather(*(publish() for _ in range(_TOGETHER)))
    await all_ended.wait()
    seconds = time.perf_counter() - began
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    return samples / seconds


def _summary(milliseconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(statistics.median(milliseconds), 3),
        "p95_ms": round(sorted(milliseconds)[int(len(milliseconds) * 0.95)], 3),
    }
