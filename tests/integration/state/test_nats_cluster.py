"""Three nodes: the leader is killed in the middle of the work."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nats_work import Acknowledged, check, count_until, until_it_answers, write_until
from tests import nats_servers
from tests.nats_servers import settings_for

from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore


async def test_no_acknowledged_change_is_lost_with_the_leader(tmp_path: Path) -> None:
    with nats_servers.nats_cluster(tmp_path) as nodes:
        settings = settings_for(list(nodes.values()), cluster_timeout_seconds=20)
        store, other = await _open(settings), await _open(settings)
        stop, done = asyncio.Event(), Acknowledged()
        work = [
            asyncio.create_task(write_until(store, "w", stop, done)),
            asyncio.create_task(count_until(store, "counter", stop, done)),
            asyncio.create_task(count_until(other, "counter", stop, done)),
        ]
        for _ in range(2):
            await asyncio.sleep(1)
            before, leader = len(done.versions), await _leader(store)
            nodes[leader].kill()
            while len(done.versions) < before + 50:  # noqa: ASYNC110 - with two of three nodes
                await asyncio.sleep(0.05)
            assert await _leader(store) != leader
            await asyncio.to_thread(nodes[leader].start)
            await until_it_answers(store)
            await _until_whole(store)
        stop.set()
        await asyncio.gather(*work)
        await check(store, "w", done, "counter")
        await check(other, "w", done, "counter")
        assert done.read_behind == 0
        print(f"{len(done.versions)} keys, {done.counted} increments, {done.failed} failed calls")
        await store.aclose()
        await other.aclose()


async def _open(settings: ClusterSettings) -> NatsStore:
    """Nodes that have just started have no leader yet."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await NatsStore.open(settings)
            except (FailedPrecondition, Unavailable):
                await asyncio.sleep(0.5)


async def _leader(store: NatsStore) -> str:
    info = await _info(store)
    return str(info.cluster.leader)


async def _until_whole(store: NatsStore) -> None:
    async with asyncio.timeout(60):
        while True:
            cluster = (await _info(store)).cluster
            if cluster.leader and all(each.current for each in cluster.replicas or []):
                return
            await asyncio.sleep(0.1)


async def _info(store: NatsStore):  # type: ignore[no-untyped-def]
    async with store._connection.deadline("test"):
        return await store._connection.ask(lambda js: js.stream_info(store._subjects.stream))
