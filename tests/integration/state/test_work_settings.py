"""What the settings ask for a queue is had, or refused with the setting's name."""

from __future__ import annotations

import asyncio

import nats
import pytest
from tests.nats_servers import NatsServer, settings_for
from work_queues import item, messages, queues, take

from upscaled_server.errors import FailedPrecondition, InvalidInput, Overloaded
from upscaled_server.state.nats.work.queue import WorkQueue


async def test_settings_change_the_queue_that_is_there(each_nats_server: NatsServer) -> None:
    settings = settings_for([each_nats_server], cluster_max_queue_bytes=8 << 20)
    async with queues([each_nats_server], settings=settings, lease_seconds=30) as (queue,):
        await queue.publish(item("kept"))
    larger = settings.model_copy(update={"cluster_max_queue_bytes": 16 << 20})
    async with queues([each_nats_server], settings=larger, lease_seconds=2, max_deliveries=7) as (queue,):
        name = queue._stream.stream
        info = await queue._connection.ask(lambda js: js.stream_info(name))
        assert info.config.max_bytes == 16 << 20
        consumers = await queue._connection.ask(lambda js: js.consumers_info(name))
        assert len(consumers) == 32
        assert {(each.config.ack_wait, each.config.max_deliver) for each in consumers} == {(2.0, 7)}
        await (await take(queue)).drop()
        again = await take(queue)
        assert again.deliveries == 2
        await again.done()


async def test_many_replicas_may_open_a_queue_at_once(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    opened = await asyncio.gather(*(WorkQueue.open(settings) for _ in range(5)))
    await opened[0].publish(item("one"))
    await (await take(opened[4])).done()
    assert await messages(opened[1]) == 0
    await asyncio.gather(*(queue.aclose() for queue in opened))


async def test_queues_of_other_names_and_prefixes_share_nothing(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    opened = [
        await WorkQueue.open(settings),
        await WorkQueue.open(settings, "other"),
        await WorkQueue.open(settings_for([nats_server])),
    ]
    await opened[0].publish(item("one"))
    assert [await messages(queue) for queue in opened] == [1, 0, 0]
    for queue in opened:
        await queue.aclose()


async def test_a_stream_of_somebody_else_is_refused(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name=f"{settings.cluster_prefix}-jobs", subjects=["their-work.>"])
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_PREFIX: the stream .* is not one of"):
        await WorkQueue.open(settings)
    await client.close()


async def test_more_replicas_than_nodes_are_refused(nats_server: NatsServer) -> None:
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_REPLICAS.* with 3 replicas"):
        await WorkQueue.open(settings_for([nats_server], cluster_replicas=3))
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("nats")]


async def test_a_full_queue_refuses_and_takes_again_what_fits(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server], cluster_max_queue_bytes=1 << 20)
    async with queues([nats_server], settings=settings) as (queue,):
        stored = 0
        with pytest.raises(Overloaded, match="UPSCALED_CLUSTER_MAX_QUEUE_BYTES"):
            for number in range(100_000):
                await queue.publish(item(f"i{number:06}"))
                stored += 1
        # As the setting says: about 1 KiB, and not more, for a job.
        assert stored >= 1024
        await (await take(queue)).done()
        await queue.publish(item("again"))


@pytest.mark.parametrize("lanes", [0, 65])
async def test_lanes_out_of_range_are_refused(nats_server: NatsServer, lanes: int) -> None:
    with pytest.raises(InvalidInput, match="lanes"):
        await WorkQueue.open(settings_for([nats_server]), lanes=lanes)


async def test_a_queue_that_was_removed_is_made_anew(nats_server: NatsServer) -> None:
    async with queues([nats_server]) as (queue,):
        for stream in (queue._stream.stream, queue._stream.dead_stream):
            await queue._connection.ask(lambda js, stream=stream: js.delete_stream(stream))
        waiting = asyncio.create_task(take(queue))
        async with asyncio.timeout(60):
            await queue.publish(item("one"))
        await (await waiting).done()
        assert await messages(queue) == 0
