"""Many callers at once: what they wait for each other, what is lost to concurrency, what scheduling costs.

    python -m tests.benchmarks.load [--out docs/benchmarks/load.json] [--part NAME …]

One server with its defaults, and beside it the same with one image at a time: first in, first out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.benchmarks.contest.machine import describe
from tests.benchmarks.load_chaos import killed_workers
from tests.benchmarks.load_leaving import callers_leave
from tests.benchmarks.load_policy import scheduler_cost
from tests.benchmarks.load_together import all_at_once
from tests.benchmarks.load_traffic import (
    LARGE_MEGAPIXELS,
    MODEL,
    Outcome,
    ask,
    large_jobs,
    large_picture,
    percentile,
    small_pictures,
    summary,
    warm,
)
from tests.benchmarks.processes import measured_server
from upscaled import AsyncClient

_CALLERS = 32
_CALLERS_SECONDS = 40.0
_LARGE_SHARE = 0.03
# Of first in, first out only a few: each waits for a large image.
_FIFO_REQUESTS = 2


async def beside_a_large_job(requests: int = 20) -> dict[str, Any]:
    """Small images one after another: alone, beside batch work, and first in, first out."""
    pictures, large = small_pictures(requests), large_picture()
    alone, beside, fifo = Outcome(), Outcome(), Outcome()
    with measured_server() as server:
        async with AsyncClient(server.address) as client:
            await warm(client)
            for picture in pictures:
                await ask(client, picture, alone)
            async with large_jobs(client, large, "batch"):
                for picture in pictures:
                    await ask(client, picture, beside)
    print("alone", summary(alone), "beside", summary(beside), flush=True)
    with measured_server(UPSCALED_MAX_OPEN_RUNS="1") as server:
        async with AsyncClient(server.address) as client:
            await warm(client)
            async with large_jobs(client, large, "interactive"):
                for picture in pictures[:_FIFO_REQUESTS]:
                    await ask(client, picture, fifo)
    p95 = percentile(alone.small_seconds, 0.95)
    return {
        "small_images": "sides of 128 to 512 pixels",
        "large_megapixels": LARGE_MEGAPIXELS,
        "alone": summary(alone),
        "beside_batch": summary(beside),
        "first_in_first_out": summary(fifo),
        "p95_ratio": percentile(beside.small_seconds, 0.95) / p95,
        "p95_ratio_first_in_first_out": percentile(fifo.small_seconds, 0.95) / p95,
    }


async def many_callers() -> dict[str, Any]:
    """Callers that ask again as soon as they are answered; of their images a few are large, as batch work."""
    pictures, large = small_pictures(100), large_picture()
    outcome, chance = Outcome(), random.Random(5)
    with measured_server() as server:
        async with AsyncClient(server.address) as client:
            await warm(client)
            end = time.monotonic() + _CALLERS_SECONDS

            async def caller() -> None:
                while time.monotonic() < end:
                    if chance.random() < _LARGE_SHARE:
                        await ask(client, large, outcome, "batch")
                    else:
                        await ask(client, chance.choice(pictures), outcome)

            await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return {"callers": _CALLERS, "seconds": _CALLERS_SECONDS, **summary(outcome)}


async def policy() -> dict[str, Any]:
    return dict(await asyncio.to_thread(scheduler_cost))


_PARTS: dict[str, Callable[[], Coroutine[Any, Any, dict[str, Any]]]] = {
    "policy": policy,
    "beside_a_large_job": beside_a_large_job,
    "all_at_once": all_at_once,
    "callers_leave": callers_leave,
    "many_callers": many_callers,
    "killed_workers": killed_workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/load.json"))
    parser.add_argument("--part", action="append", choices=_PARTS, default=[])
    options = parser.parse_args()
    result: dict[str, Any] = {"model": MODEL, "machine": describe()}
    if options.part and options.out.exists():
        result = json.loads(options.out.read_text())
    began = time.monotonic()
    for name in options.part or _PARTS:
        print(f"{name} …", flush=True)
        result[name] = asyncio.run(_PARTS[name]())
        print(json.dumps(result[name], indent=1), flush=True)
    if not options.part:
        result["seconds"] = time.monotonic() - began
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
