"""What was tried as often as is allowed is told, and stays until somebody has dealt with it."""

from __future__ import annotations

import asyncio

import pytest
from tests.nats_servers import NatsServer, settings_for
from work_queues import WAIT_SECONDS, is_empty, item, messages, queues, take

from upscaled_server.state.nats.work.dead import Dead, DeadLetters
from upscaled_server.state.nats.work.item import Item
from upscaled_server.state.nats.work.queue import WorkQueue


async def _fail(queue: WorkQueue, times: int) -> None:
    for number in range(times):
        lease = await take(queue)
        assert lease.deliveries == number + 1
        await lease.again(0)


async def _next_dead(queue: WorkQueue) -> Dead:
    async with asyncio.timeout(WAIT_SECONDS):
        async for dead in queue.dead():
            return dead
    raise AssertionError


async def test_an_item_that_fails_too_often_is_told_once_and_settled(each_nats_server: NatsServer) -> None:
    poison = Item(id="poison", owner="anna", urgent=False, cost=3.0, data=b"why")
    async with queues([each_nats_server], 2, max_deliveries=3) as (here, there):
        await here.publish(poison)
        await _fail(here, 3)
        assert await is_empty(here)
        assert await messages(here) == 1
        dead = await _next_dead(there)
        assert dead.item == poison
        await dead.settle()
        await dead.settle()
        assert await messages(here) == 0
        reader = asyncio.create_task(anext(aiter(there.dead())))  # type: ignore[arg-type]
        await asyncio.wait([reader], timeout=3)
        assert not reader.done()
        there.close()
        await asyncio.wait([reader], timeout=WAIT_SECONDS)
        assert isinstance(reader.exception(), StopAsyncIteration)


async def test_what_nobody_read_is_kept_for_the_next_replica(each_nats_server: NatsServer) -> None:
    """Also where items ended with the replica that had them, and none is left."""
    settings = settings_for([each_nats_server])
    for _ in range(2):
        async with queues([each_nats_server], settings=settings, lease_seconds=1, max_deliveries=2) as (
            queue,
        ):
            await queue.publish(item("poison"))
            await take(queue)
    async with queues([each_nats_server], settings=settings, lease_seconds=1, max_deliveries=2) as (queue,):
        taker = asyncio.create_task(queue.take())
        dead = await _next_dead(queue)
        assert dead.item.id == "poison"
        await dead.settle()
        assert not taker.done()
        queue.close()
        assert await taker is None


async def test_what_is_not_settled_is_told_again(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with queues([nats_server], 2, settings=settings, max_deliveries=1) as (here, there):
        await here.publish(item("poison"))
        await _fail(here, 1)
        assert await is_empty(here)
        # A minute is what a replica has for it; here it says at once that it will not.
        notice = (await _next_dead(here))._notice
        assert notice is not None
        await notice.nak()
        dead = await _next_dead(there)
        assert dead.item.id == "poison"
        await dead.settle()
        assert await messages(here) == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_items_whose_news_were_lost_are_found(each_nats_server: NatsServer, busy: bool) -> None:
    async with queues([each_nats_server], max_deliveries=2) as (queue,):
        letters = DeadLetters(queue._connection, queue._stream, scan_seconds=1)
        for name in ("poison", "other"):
            await queue.publish(item(name))
            await _fail(queue, 2)
        assert await is_empty(queue)
        await queue._connection.ask(lambda js: js.purge_stream(queue._stream.dead_stream))
        # What is worked on, and what waits, is not dead.
        if busy:
            for name in ("finished", "held"):
                await queue.publish(item(name))
                lease = await take(queue)
                if name == "finished":
                    await lease.done()
            await queue.publish(item("waiting"))
        found = []
        reader = letters.read()
        async with asyncio.timeout(WAIT_SECONDS):
            for _ in range(2):
                dead = await anext(reader)
                found.append(dead.item.id)
                await dead.settle()
        assert found == ["poison", "other"]
        more = asyncio.create_task(anext(reader))  # type: ignore[arg-type]
        await asyncio.wait([more], timeout=5)
        assert not more.done()
        letters.close()
        await asyncio.wait([more])
        assert isinstance(more.exception(), StopAsyncIteration)
        assert await messages(queue) == 2 * busy
