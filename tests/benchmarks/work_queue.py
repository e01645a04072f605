"""What the queue of work costs for each item: NATS with one node, and with three.

python -m tests.benchmarks.work_queue [--items 2000] [--out bench-results/work_queue.json]

Everything runs on this machine, so that the network costs nothing and three nodes share its cores and disk.
Items go from one replica to another, which waits for them; each is put in, taken and finished before the
next. Then 32 of them are under way at once. The figures are of nothing but the queue: nobody works.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests import nats_servers
from tests.nats_servers import NatsServer, settings_for
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.item import Item
from upscaled_server.state.nats.work.queue import WorkQueue

_ROUNDS = 5
_TOGETHER = 32
_OWNERS = 50
_START_SECONDS = 60.0


def _item(name: str, number: int) -> Item:
    return Item(id=f"{name}-{number}", owner=f"caller-{number % _OWNERS}", urgent=number % 2 > 0, cost=1.0)


async def one_by_one(here: WorkQueue, there: WorkQueue, name: str, items: int) -> dict[str, list[float]]:
    """Milliseconds of each step."""
    found: dict[str, list[float]] = {"publish": [], "until_taken": [], "done": [], "all": []}
    for number in range(items):
        taking = asyncio.create_task(there.take())
        await asyncio.sleep(0)
        began = time.perf_counter()
        await here.publish(_item(name, number))
        published = time.perf_counter()
        lease = await taking
        taken = time.perf_counter()
        assert lease is not None
        await lease.done()
        ended = time.perf_counter()
        for step, seconds in (
            ("publish", published - began),
            ("until_taken", taken - published),
            ("done", ended - taken),
            ("all", ended - began),
        ):
            found[step].append(seconds * 1e3)
    return found


async def together(here: WorkQueue, there: WorkQueue, name: str, items: int) -> float:
    """Milliseconds for each item, with many under way."""
    numbers, leases = iter(range(items)), iter(range(items))

    async def publish() -> None:
        for number in numbers:
            await here.publish(_item(name, number))

    async def work() -> None:
        for _ in leases:
            lease = await there.take()
            assert lease is not None
            await lease.done()

    began = time.perf_counter()
    await asyncio.gather(*(publish() for _ in range(_TOGETHER)), *(work() for _ in range(_TOGETHER)))
    return (time.perf_counter() - began) * 1e3 / items


async def measure(servers: Sequence[NatsServer], items: int) -> dict[str, float]:
    settings = settings_for(servers)
    here, there = await _open(settings), await _open(settings)
    steps: dict[str, list[float]] = {}
    at_once: list[float] = []
    for number in range(_ROUNDS + 1):
        found = await one_by_one(here, there, f"one-{number}", max(4, items // _ROUNDS))
        each = await together(here, there, f"many-{number}", max(2 * _TOGETHER, items // _ROUNDS))
        if number:  # the first warms up
            at_once.append(each)
            for step, milliseconds in found.items():
                steps.setdefault(step, []).extend(milliseconds)
    await here.aclose()
    await there.aclose()
    figures = {f"{step}_p50_ms": round(statistics.median(values), 3) for step, values in steps.items()}
    figures["all_p99_ms"] = round(sorted(steps["all"])[int(len(steps["all"]) * 0.99)], 3)
    figures[f"each_of_{_TOGETHER}_at_once_ms"] = round(statistics.median(at_once), 3)
    return figures


async def _open(settings: ClusterSettings) -> WorkQueue:
    """Nodes that have just started have no leader yet."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                return await WorkQueue.open(settings)
            except (FailedPrecondition, Unavailable):
                await asyncio.sleep(0.5)


async def run(items: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        with nats_servers.nats_server(Path(folder) / "alone") as alone:
            one = await measure([alone], items)
        with nats_servers.nats_cluster(Path(folder) / "three") as nodes:
            three = await measure(list(nodes.values()), items)
    version = ".".join(map(str, max(nats_servers.programs())))
    return {"nats_server": version, "items": items, "nats_1_node": one, "nats_3_nodes": three}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("bench-results/work_queue.json"))
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.items))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
