"""What every server pays for a change that another one made, since each keeps all keys in memory."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.benchmarks.telemetry import cpu_seconds
from tests.nats_servers import NatsServer, nats_cluster, settings_for
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore

_VALUE = bytes(1500)
"""About what a job's entry takes."""
_TOGETHER = 32
_WARM = 500
_MANY = 9
_START_SECONDS = 60.0


def measure(changes: int, keys: int) -> dict[str, Any]:
    """Servers that only listen, and the nodes of NATS, while another one makes changes: so many to entries
    that live for five of them, and then so many new entries, small ones."""
    one, many = _measure(1, changes, keys), _measure(_MANY, changes, 0)
    more = (_MANY - 1) * changes
    return {
        "changes": changes,
        "value_bytes": len(_VALUE),
        "changes_per_second_with_1_listening_server": round(changes / one["seconds"], 1),
        f"changes_per_second_with_{_MANY}_listening_servers": round(changes / many["seconds"], 1),
        "cpu_microseconds_per_change": {
            "of_a_listening_server": round((many["listening"] - one["listening"]) / more * 1e6, 1),
            "of_all_nodes_with_1_listening_server": round(one["nodes"] / changes * 1e6, 1),
            "of_all_nodes_for_each_further_one": round((many["nodes"] - one["nodes"]) / more * 1e6, 2),
        },
        "keys": keys,
        "bytes_per_key_in_a_server": round(one["bytes"] / keys),
    }


def _measure(servers: int, changes: int, keys: int) -> dict[str, float]:
    """Wall seconds, and processor seconds of all that listen and of all nodes."""
    with tempfile.TemporaryDirectory() as folder, nats_cluster(Path(folder)) as nodes:
        settings = settings_for(list(nodes.values()))
        asyncio.run(_change(settings, _WARM, 5, _VALUE))
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        listening = spawn.Process(target=_listen, args=(settings, theirs, servers))
        listening.start()
        try:
            ours.recv()  # it listens
            before, began = _cpu_of(nodes), time.perf_counter()
            asyncio.run(_change(settings, changes, 5, _VALUE))
            seconds, after = time.perf_counter() - began, _cpu_of(nodes)
            ours.send("changes")
            cpu, _ = ours.recv()
            asyncio.run(_change(settings, keys, 1, b"{}"))
            ours.send("keys")
            _, memory = ours.recv()
        finally:
            listening.terminate()
            listening.join(30)
    return {"seconds": seconds, "listening": cpu, "nodes": after - before, "bytes": memory}


async def _change(settings: ClusterSettings, changes: int, each: int, value: bytes) -> None:
    """Several at a time; an entry is created and then updated until it was changed `each` times."""
    store = await _open(settings)
    numbers, run = iter(range(changes)), time.time_ns()

    async def work(worker: int) -> None:
        key, version, left = "", 0, 0
        for number in numbers:
            if left:
                version = await store.update(key, value, version)
            else:
                key, left = f"jobs/{run}/{worker:02}-{number:08}", each
                version = await store.create(key, value)
            left -= 1

    await asyncio.gather(*map(work, range(_TOGETHER)))
    await store.aclose()


def _listen(settings: ClusterSettings, pipe: Connection, servers: int) -> None:
    """Answers every message with what changes have cost since the last one: processor seconds and bytes."""

    async def listen() -> None:
        stores = [await _open(settings) for _ in range(servers)]
        cpu, memory = _own_cpu(), _rss()
        pipe.send("listening")
        while True:
            await asyncio.to_thread(pipe.recv)
            for store in stores:
                await store.range("jobs", limit=1)  # waits until it has heard of every change
            found = _own_cpu(), _rss()
            pipe.send((found[0] - cpu, found[1] - memory))
            cpu, memory = found

    asyncio.run(listen())


async def _open(settings: ClusterSettings) -> NatsStore:
    """Nodes that have just started have no leader yet."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                return await NatsStore.open(settings)
            except (FailedPrecondition, Unavailable):
                await asyncio.sleep(0.5)


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of(nodes: dict[str, NatsServer]) -> float:
    return sum(cpu_seconds(node.pid)["server"] for node in nodes.values())


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
