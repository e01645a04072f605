"""Queues of a test's own, and what its tests do with them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.nats_servers import NatsServer, settings_for

from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.item import Item
from upscaled_server.state.nats.work.lane import lane_of
from upscaled_server.state.nats.work.lease import Lease
from upscaled_server.state.nats.work.queue import WorkQueue

WAIT_SECONDS = 60.0
LANES = 16


@asynccontextmanager
async def queues(
    servers: Sequence[NatsServer],
    count: int = 1,
    *,
    settings: ClusterSettings | None = None,
    lease_seconds: float = 30.0,
    max_deliveries: int = 50,
) -> AsyncIterator[list[WorkQueue]]:
    """As many replicas of one queue. Nodes that have just started have no leader yet."""
    settings = settings or settings_for(servers)
    opened: list[WorkQueue] = []
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(opened) < count:
                try:
                    opened.append(
                        await WorkQueue.open(
                            settings, lease_seconds=lease_seconds, max_deliveries=max_deliveries
                        )
                    )
                except (FailedPrecondition, Unavailable):
                    if len(servers) == 1:
                        raise
                    await asyncio.sleep(0.5)
        yield opened
    finally:
        for each in opened:
            await each.aclose()


def item(name: str, *, owner: str = "anna", urgent: bool = True, cost: float = 1.0) -> Item:
    return Item(id=name, owner=owner, urgent=urgent, cost=cost)


def owners(count: int) -> list[str]:
    """Whose items lie in different lanes."""
    by_lane: dict[int, str] = {}
    for number in itertools.count():
        owner = f"caller-{number}"
        by_lane.setdefault(lane_of(owner, True, LANES).number, owner)
        if len(by_lane) == count:
            return list(by_lane.values())
    raise AssertionError


async def take(queue: WorkQueue) -> Lease:
    async with asyncio.timeout(WAIT_SECONDS):
        lease = await queue.take()
    assert lease is not None
    return lease


async def publish_surely(queue: WorkQueue, item: Item) -> int:
    """How often it had to be tried again."""
    failed = 0
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await queue.publish(item)
                return failed
            except Unavailable:
                failed += 1
                await asyncio.sleep(0.05)


async def is_empty(queue: WorkQueue, seconds: float = 3.0) -> bool:
    """Whether nothing is handed out for longer than a replica takes to look at the stream."""
    try:
        async with asyncio.timeout(seconds):
            lease = await queue.take()
    except TimeoutError:
        return True
    assert lease is not None
    await lease.again(0)
    return False


async def messages(queue: WorkQueue) -> int:
    """In the stream, worked on or not."""
    async with queue._connection.deadline("test"):
        info = await queue._connection.ask(lambda js: js.stream_info(queue._stream.stream))
    return int(info.state.messages)
