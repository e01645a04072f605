"""What an operation costs in either store: NATS with one node, NATS with three, against SQLite.

python -m tests.benchmarks.stores [--samples 2000] [--out bench-results/stores.json]

Everything runs on this machine, so that the network costs nothing and three nodes share its cores and disk.
SQLite forces every change to the disk before it returns; NATS writes it, and forces it there later.
Each round does the same in one store after the other; figures are medians over all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests import nats_servers
from tests.nats_servers import settings_for
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore
from upscaled_server.state.sqlite import SqliteStore
from upscaled_server.state.store import Store

_BASELINE = "sqlite"
_VALUE = bytes(1500)
"""About what a job's entry takes."""
_ROUNDS = 10
_TOGETHER = 32
_START_SECONDS = 60.0


async def _each(samples: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each call, one after the other."""
    found = []
    for number in range(samples):
        began = time.perf_counter()
        await call(number)
        found.append((time.perf_counter() - began) * 1e3)
    return found


async def measure_round(store: Store, name: str, samples: int) -> dict[str, list[float]]:
    """Milliseconds by operation, in keys of this round's own."""
    versions: dict[int, int] = {}

    async def create(number: int) -> None:
        versions[number] = await store.create(f"{name}/{number:06}", _VALUE)

    async def update(number: int) -> None:
        versions[number] = await store.update(f"{name}/{number:06}", _VALUE, versions[number])

    async def together(number: int) -> None:
        keys = [f"{name}-together/{number:06}-{each:02}" for each in range(_TOGETHER)]
        await asyncio.gather(*(store.create(key, _VALUE) for key in keys))

    found = {
        "create": await _each(samples, create),
        "get": await _each(samples, lambda number: store.get(f"{name}/{number:06}")),
        "update": await _each(samples, update),
        "range_of_50": await _each(samples // 4, lambda _: store.range(name, limit=50)),
        "create_32_at_once": await _each(max(1, samples // _TOGETHER), together),
        "delete": await _each(samples, lambda number: store.delete(f"{name}/{number:06}", versions[number])),
    }
    with store.watch(name) as watch:

        async def told(number: int) -> None:
            await store.create(f"{name}/{number:06}", _VALUE)
            await anext(watch)

        found["create_and_hear_of_it"] = await _each(samples // 4, told)
    return found


async def measure(stores: dict[str, Store], samples: int) -> dict[str, dict[str, dict[str, float]]]:
    """By operation, then by store: median and 99th percentile in milliseconds, and the ratio of medians to
    SQLite's."""
    every: dict[str, dict[str, list[float]]] = {}
    for number in range(_ROUNDS + 1):
        for store_name, store in stores.items():
            found = await measure_round(store, f"round-{number}", max(4, samples // _ROUNDS))
            if number:  # the first warms up
                for operation, milliseconds in found.items():
                    every.setdefault(operation, {}).setdefault(store_name, []).extend(milliseconds)
    return {operation: _summary(by_store) for operation, by_store in every.items()}


def _summary(by_store: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    baseline = statistics.median(by_store[_BASELINE])
    return {
        name: {
            "p50_ms": round(statistics.median(values), 3),
            "p99_ms": round(sorted(values)[int(len(values) * 0.99)], 3),
            "ratio_to_sqlite": round(statistics.median(values) / baseline, 2),
        }
        for name, values in by_store.items()
    }


async def _open(settings: ClusterSettings) -> NatsStore:
    """Nodes that have just started have no leader yet."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                return await NatsStore.open(settings)
            except (FailedPrecondition, Unavailable):
                await asyncio.sleep(0.5)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[dict[str, Store]]:
    """Every store that is compared."""
    async with AsyncExitStack() as stack:
        alone = stack.enter_context(nats_servers.nats_server(folder / "alone"))
        three = list(stack.enter_context(nats_servers.nats_cluster(folder / "three")).values())
        stores: dict[str, Store] = {
            _BASELINE: await SqliteStore.open(folder / "state.db"),
            "nats_1_node": await _open(settings_for([alone])),
            "nats_3_nodes": await _open(settings_for(three)),
        }
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        yield stores


async def run(samples: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as stores:
            found = await measure(stores, samples)
    version = ".".join(map(str, max(nats_servers.programs())))
    return {"nats_server": version, "value_bytes": len(_VALUE), "samples": samples, "operations": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("bench-results/stores.json"))
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.samples))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
