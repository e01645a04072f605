"""What lies in the queue is given to one replica at a time, until it is done."""

from __future__ import annotations

import asyncio
from collections import Counter

from nats.aio.msg import Msg
from tests.nats_servers import NatsServer, settings_for
from work_queues import LANES, is_empty, item, messages, queues, take

from upscaled_server.state.nats.work.item import Item
from upscaled_server.state.nats.work.lane import lane_of
from upscaled_server.state.nats.work.pulls import Pulls, give_back
from upscaled_server.state.nats.work.queue import WorkQueue


async def test_an_item_is_taken_as_it_was_published_and_is_gone_when_it_is_done(
    each_nats_server: NatsServer,
) -> None:
    item = Item(id="one", owner="Jürgen: 1\r\n", urgent=False, cost=2.5, data=bytes(range(256)))
    async with queues([each_nats_server], 2) as (here, there):
        await here.publish(item)
        lease = await take(there)
        assert (lease.item, lease.deliveries, lease.lost.is_set()) == (item, 1, False)
        await lease.done()
        await lease.done()
        assert await messages(here) == 0


async def test_publishing_twice_makes_one_item(each_nats_server: NatsServer) -> None:
    async with queues([each_nats_server], 2) as (here, there):
        await here.publish(item("one"))
        await there.publish(item("one"))
        await (await take(here)).done()
        await here.publish(item("one"))
        assert await messages(here) == 0


async def test_every_item_is_taken_once_by_any_of_many_takers(each_nats_server: NatsServer) -> None:
    taken: Counter[str] = Counter()

    async def work(queue: WorkQueue) -> None:
        while lease := await queue.take():
            taken[lease.item.id] += 1
            await asyncio.sleep(0)
            await lease.done()
            if len(taken) == 300:
                queue.close()

    async with queues([each_nats_server], 3) as three:
        workers = [asyncio.create_task(work(queue)) for queue in three for _ in range(4)]
        for number in range(300):
            await three[number % 3].publish(
                item(f"i{number}", owner=f"o{number % 40}", urgent=number % 3 > 0)
            )
        async with asyncio.timeout(60):
            while len(taken) < 300:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for queue in three:
            queue.close()
        await asyncio.gather(*workers)
        assert set(taken.values()) == {1}
        assert await messages(three[0]) == 0


async def test_a_waiting_taker_hears_of_an_item_from_another_replica(nats_server: NatsServer) -> None:
    """At once: not when it looks at the stream the next time."""
    async with queues([nats_server], 2) as (here, there):
        there._backlog._messages = -1
        await there._backlog.aclose()  # it never looks again
        for number in range(20):
            waiting = asyncio.create_task(take(there))
            await asyncio.sleep(0)
            await here.publish(item(f"i{number}"))
            await (await waiting).done()


async def test_an_item_that_nobody_told_of_is_found(nats_server: NatsServer) -> None:
    async with queues([nats_server]) as (queue,):
        subject = queue._stream.subject(queue._stream.lane(f"{queue._stream.stream}.urgent.3"))  # type: ignore[arg-type]
        await queue._connection.ask(lambda js: js.publish(subject, b"by hand"))
        lease = await take(queue)
        assert (lease.item.data, lease.item.id) == (b"by hand", "message-1")
        await lease.done()


async def test_urgent_items_are_taken_first_and_batch_ones_now_and_then(
    each_nats_server: NatsServer,
) -> None:
    async with queues([each_nats_server]) as (queue,):
        for number in range(20):
            await queue.publish(item(f"b{number}", owner=f"o{number}", urgent=False))
        for number in range(40):
            await queue.publish(item(f"u{number}", owner=f"o{number}"))
        order = []
        for _ in range(60):
            lease = await take(queue)
            order.append(lease.item.urgent)
            await lease.done()
        assert [number for number, urgent in enumerate(order[:45]) if not urgent] == [7, 15, 23, 31, 39]
        assert Counter(order[45:]) == {False: 15}


async def test_an_item_that_was_given_back_comes_again_after_its_delay(each_nats_server: NatsServer) -> None:
    async with queues([each_nats_server], 2) as (here, there):
        await here.publish(item("one"))
        began = asyncio.get_running_loop().time()
        await (await take(here)).again(0)
        await (await take(there)).again(1.5)
        lease = await take(here)
        assert lease.deliveries == 3
        assert asyncio.get_running_loop().time() - began >= 1.5
        await lease.done()
        assert await messages(here) == 0


async def test_an_item_that_was_dropped_comes_again_after_its_lease(each_nats_server: NatsServer) -> None:
    async with queues([each_nats_server], 2, lease_seconds=2) as (here, there):
        await here.publish(item("one"))
        lease = await take(here)
        await lease.drop()
        assert not lease.lost.is_set()
        again = await take(there)
        assert again.deliveries == 2
        await again.done()


async def test_a_lease_is_prolonged_for_as_long_as_the_work_takes(each_nats_server: NatsServer) -> None:
    async with queues([each_nats_server], 2, lease_seconds=1) as (here, there):
        await here.publish(item("one"))
        lease = await take(here)
        assert await is_empty(there, 5.0)
        assert not lease.lost.is_set()
        await lease.done()
        assert await messages(here) == 0


async def test_what_a_closed_queue_held_comes_again(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with queues([nats_server], settings=settings, lease_seconds=2) as (other,):
        async with queues([nats_server], settings=settings, lease_seconds=2) as (queue,):
            await queue.publish(item("one"))
            await take(queue)
        lease = await take(other)
        assert lease.deliveries == 2
        await lease.done()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("nats")]


async def test_closing_wakes_everybody_who_waits(nats_server: NatsServer) -> None:
    async with queues([nats_server]) as (queue,):
        waiting = [asyncio.create_task(queue.take()) for _ in range(5)]
        await queue.publish(item("held"))
        done, _ = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        (lease,) = [task.result() for task in done]
        queue.close()
        async with asyncio.timeout(20):
            assert [await task for task in waiting if task not in done] == [None] * 4
        assert await queue.take() is None
        # What is held can still be finished, and others be put in.
        assert lease is not None
        await lease.done()
        await queue.publish(item("later"))
        assert await messages(queue) == 1


async def test_takers_that_leave_keep_nothing_back(nats_server: NatsServer) -> None:
    """Whenever they are cancelled, what they would have had is for others."""
    async with queues([nats_server]) as (queue,):
        for number in range(200):
            await queue.publish(item(f"i{number}"))
        taken: Counter[str] = Counter()
        for number in range(2000):
            if len(taken) == 200:
                break
            taker = asyncio.create_task(queue.take())
            for _ in range(number % 25):
                await asyncio.sleep(0)
            if not taker.cancel():
                lease = taker.result()
                assert lease is not None
                taken[lease.item.id] += 1
                await lease.done()
            await asyncio.wait([taker])
        while len(taken) < 200:
            lease = await take(queue)
            taken[lease.item.id] += 1
            await lease.done()
        assert set(taken.values()) == {1}
        assert await messages(queue) == 0
        assert not queue._dispatcher._waiting


async def test_an_item_that_comes_when_nobody_waits_any_more_is_given_back(
    each_nats_server: NatsServer,
) -> None:
    """At once, and not when its lease ends."""
    async with queues([each_nats_server], lease_seconds=300) as (queue,):
        await queue.publish(item("one"))
        given_back = asyncio.Event()

        async def strayed(message: Msg) -> None:
            await give_back(message)
            given_back.set()

        pulls = Pulls(queue._connection, queue._stream.stream, strayed)
        async with asyncio.timeout(60):
            # A consumer may say that there is nothing for a moment after the item was published.
            while not given_back.is_set():
                asking = asyncio.create_task(pulls.pull(lane_of("anna", True, LANES).consumer))
                while not pulls.asking:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await asyncio.sleep(0.05)
            lease = await take(queue)
        assert lease.deliveries >= 2
        await lease.done()


async def test_waiting_counts_what_nobody_works_on(nats_server: NatsServer) -> None:
    async with queues([nats_server], 2) as (here, there):
        for number in range(10):
            await here.publish(item(f"i{number}"))
        leases = [await take(each) for each in (here, here, there)]
        for count in (7, 8):
            async with asyncio.timeout(60):
                while (here.waiting, there.waiting) != (count, count):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await leases[0].again(0)
        assert here.connected


async def test_takers_without_work_ask_seldom(nats_server: NatsServer) -> None:
    """Also where everything that lies there is worked on by somebody else."""
    async with queues([nats_server], 2) as (here, there):
        for number in range(5):
            await here.publish(item(f"i{number}", owner=f"o{number}"))
        leases = [await take(here) for _ in range(5)]
        waiting = [asyncio.create_task(there.take()) for _ in range(5)]
        await asyncio.sleep(1)
        before = there._dispatcher._pulls._number
        await asyncio.sleep(5)
        # Each of at most 5 lanes, each time the stream is looked at: every 1.5 seconds at most.
        assert there._dispatcher._pulls._number - before <= 5 * 4
        there.close()
        assert await asyncio.gather(*waiting) == [None] * 5
        for lease in leases:
            await lease.done()
