"""A caller disconnects in the middle of an image: how much of it is still computed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from tests.benchmarks.contest.ledger import Ledger
from tests.benchmarks.large_image import photograph
from tests.benchmarks.load_traffic import MODEL, percentile, small_pictures, warm
from tests.benchmarks.processes import measured_server
from upscaled import AsyncClient, Chunk
from upscaled_server.tiling.plan import RunPlan

_MEGAPIXELS = 1.0
_IDLE_SECONDS = 0.3
_POLL_SECONDS = 0.02


async def callers_leave(times: int = 5) -> dict[str, Any]:
    """Processor seconds that the worker spends on an image after its caller has gone, against those of one
    unit: the image's, divided by its steps. Then what the queue looks like to the next caller.
    """
    data = photograph(_MEGAPIXELS)[0]
    after, seconds, waits, positions = list[float](), list[float](), list[float](), list[int]()
    with measured_server() as server:
        async with AsyncClient(server.address) as client:
            await warm(client)
            with Ledger(server.pid) as whole:
                result = await client.upscale(data, model=MODEL, format="jpeg", timeout=300)
            steps = sum(RunPlan.from_dict(each).steps for each in json.loads(result.provenance.execution))
            for _ in range(times):
                await _leave_midway(server.address, data)
                with Ledger(server.pid) as ledger:
                    seconds.append(await _until_idle(server.pid))
                after.append(ledger.seconds["worker"])
                small = small_pictures(1)[0].data
                plan = (await client.upscale(small, model=MODEL, validate_only=True)).plan
                waits.append(plan.estimated_wait_seconds)
                positions.append(plan.queue_position)
    unit = whole.seconds["worker"] / steps
    return {
        "megapixels": _MEGAPIXELS,
        "steps": steps,
        "processor_seconds_of_a_unit": unit,
        "processor_seconds_after_leaving": percentile(after, 0.5),
        "most_processor_seconds_after_leaving": max(after),
        "units_after_leaving": percentile(after, 0.5) / unit,
        "seconds_until_idle": percentile(seconds, 0.5),
        "estimated_wait_seconds_of_the_next": max(waits),
        "queue_position_of_the_next": max(positions),
    }


async def _leave_midway(address: str, data: bytes) -> None:
    """The connection is closed when a third of the rows has come."""
    client = AsyncClient(address)
    try:
        stream = client.upscale_stream(data, model=MODEL, format="png", timeout=300)
        chunks = 0
        async for event in stream:
            chunks += isinstance(event, Chunk)
            if chunks == 16:
                return
    finally:
        await client.aclose()


async def _until_idle(server: int) -> float:
    """Seconds until the worker spends nothing any more."""
    began = last = time.monotonic()
    while time.monotonic() - last < _IDLE_SECONDS:
        with Ledger(server) as ledger:
            await asyncio.sleep(_POLL_SECONDS)
        if ledger.seconds["worker"]:
            last = time.monotonic()
    return last - began
