"""Three nodes: the leader is killed in the middle of the work, and nothing is lost or finished twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import nats_servers
from work_queues import WAIT_SECONDS, item, messages, publish_surely, queues

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats.work.queue import WorkQueue


@dataclass
class _Done:
    taken: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)
    unsure: set[str] = field(default_factory=set)
    """Whose end was confirmed to nobody: they may come again."""


async def _work(queue: WorkQueue, done: _Done) -> None:
    while lease := await queue.take():
        name = lease.item.id
        done.taken[name] += 1
        await asyncio.sleep(0.01)
        if lease.lost.is_set():
            continue
        try:
            await lease.done()
        except Unavailable:
            done.unsure.add(name)
        else:
            done.confirmed[name] += 1


async def _publish(queue: WorkQueue, names: list[str]) -> int:
    failed = 0
    for number, name in enumerate(names):
        failed += await publish_surely(
            queue, item(name, owner=f"o{number % 11}", urgent=number % 2 > 0, cost=0.5)
        )
    return failed


async def _leader(queue: WorkQueue) -> str:
    async with queue._connection.deadline("test"):
        info = await queue._connection.ask(lambda js: js.stream_info(queue._stream.stream))
    return str(info.cluster.leader)


async def _until(done: _Done, count: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while len(done.confirmed) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_nothing_is_lost_or_finished_twice_with_the_leader(tmp_path: Path) -> None:
    with nats_servers.nats_cluster(tmp_path) as nodes:
        async with queues(list(nodes.values()), 2, lease_seconds=20) as (here, there):
            done = _Done()
            workers = [asyncio.create_task(_work(queue, done)) for queue in (here, there) for _ in range(3)]
            names = [f"i{number:03}" for number in range(240)]
            failed = 0
            for start in range(0, 240, 80):
                publishing = asyncio.create_task(_publish(here, names[start : start + 80]))
                await _until(done, start + 20)
                if start < 160:
                    leader = await _leader(there)
                    nodes[leader].kill()
                    failed += await publishing
                    await _until(done, start + 60)  # with two of three nodes
                    await asyncio.to_thread(nodes[leader].start)
                else:
                    failed += await publishing
            async with asyncio.timeout(120):
                while await messages(there):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            here.close()
            there.close()
            await asyncio.gather(*workers)
        tried = sum(done.taken.values())
        print(f"{len(names)} items, tried {tried} times, {failed} failed calls, {len(done.unsure)} unsure")
        assert set(done.confirmed) | done.unsure == set(names)
        assert max(done.confirmed.values()) == 1
