"""Replicas and NATS go away: what was worked on comes again, and whoever lost it knows before that."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from holding_proxy import HoldingProxy, holding_proxy
from tests import nats_servers
from tests.nats_servers import NatsServer, settings_for
from work_queues import WAIT_SECONDS, is_empty, item, messages, publish_surely, queues, take

from upscaled_server.errors import Unavailable

_HOLDER = Path(__file__).parent / "work_holder.py"


async def test_what_a_killed_process_worked_on_comes_again(each_nats_server: NatsServer) -> None:
    settings = settings_for([each_nats_server])
    async with queues([each_nats_server], settings=settings, lease_seconds=2) as (queue,):
        names = {f"i{number}" for number in range(5)}
        for name in names:
            await queue.publish(item(name, owner=name))
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, str(_HOLDER), settings.model_dump_json(), "2", "5"),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert holder.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            assert {(await holder.stdout.readline()).decode().strip() for _ in range(5)} == names
        # For longer than a lease they are not given to anybody else.
        assert await is_empty(queue, 4.0)
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        leases = [await take(queue) for _ in range(5)]
        assert {lease.item.id for lease in leases} == names
        assert all(lease.deliveries == 2 for lease in leases)
        for lease in leases:
            await lease.done()
        assert await messages(queue) == 0


def _silent(proxy: HoldingProxy) -> None:
    proxy.hold()


def _without_answers(proxy: HoldingProxy) -> None:
    proxy.answers = False


def _cut(proxy: HoldingProxy) -> None:
    proxy.hold()
    proxy.cut()


@pytest.mark.parametrize("how", [_silent, _without_answers, _cut])
async def test_a_replica_that_is_cut_off_knows_before_another_has_its_item(
    each_nats_server: NatsServer, how: object
) -> None:
    settings = settings_for([each_nats_server])
    async with holding_proxy(each_nats_server.port) as proxy:
        cut = settings.model_copy(update={"cluster_url": proxy.url})
        async with (
            queues([each_nats_server], settings=settings, lease_seconds=4) as (there,),
            queues([each_nats_server], settings=cut, lease_seconds=4) as (here,),
        ):
            await here.publish(item("one"))
            lease = await take(here)
            other = asyncio.create_task(take(there))
            how(proxy)  # type: ignore[operator]
            async with asyncio.timeout(WAIT_SECONDS):
                await lease.lost.wait()
            assert not other.done()
            second = await other
            assert second.deliveries == 2
            proxy.go_on()
            # Whoever lost it changes nothing any more.
            await lease.done()
            await lease.again(0)
            await lease.drop()
            assert await messages(there) == 1
            await second.done()
            # And takes part again.
            await there.publish(item("two"))
            await (await take(here)).done()
            assert await messages(there) == 0


async def test_a_lease_outlives_a_short_cut(each_nats_server: NatsServer) -> None:
    settings = settings_for([each_nats_server])
    async with holding_proxy(each_nats_server.port) as proxy:
        cut = settings.model_copy(update={"cluster_url": proxy.url})
        async with (
            queues([each_nats_server], settings=settings, lease_seconds=6) as (there,),
            queues([each_nats_server], settings=cut, lease_seconds=6) as (here,),
        ):
            await here.publish(item("one"))
            lease = await take(here)
            for _ in range(3):
                proxy.cut()
                assert await is_empty(there)
            assert not lease.lost.is_set()
            await lease.done()
            assert await messages(there) == 0


async def test_without_nats_nothing_is_published_takers_wait_and_all_goes_on_afterwards(
    tmp_path: Path,
) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        settings = settings_for([server], cluster_timeout_seconds=120)
        async with queues([server], settings=settings, lease_seconds=60) as (queue,):
            await queue.publish(item("held"))
            held = await take(queue)
            waiting = asyncio.create_task(queue.take())
            server.kill()
            async with asyncio.timeout(60):  # and not 120 seconds
                while queue.connected:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                with pytest.raises(Unavailable, match=r"no connection to NATS .* UPSCALED_CLUSTER_URL"):
                    await queue.publish(item("refused"))
                with pytest.raises(Unavailable, match="no connection to NATS"):
                    await held.done()
            assert not queue.connected
            assert not waiting.done()
            await asyncio.to_thread(server.start)
            await publish_surely(queue, item("later"))
            async with asyncio.timeout(WAIT_SECONDS):
                lease = await waiting
                while not queue.connected:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert lease is not None
            left = 1
            if lease.item.id == "held":
                # NATS writes that it handed something out a moment later: killed before that, it forgot it.
                assert lease.deliveries == 1
                await lease.done()
                left, lease = 0, await take(queue)
            assert lease.item.id == "later"
            await lease.done()
            assert await messages(queue) == left


async def test_what_was_published_outlives_kill_9_of_nats(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        async with queues([server], lease_seconds=10) as (queue,):
            working = asyncio.Event()

            async def work() -> set[str]:
                taken: set[str] = set()
                while lease := await queue.take():
                    try:
                        await lease.done()
                    except Unavailable:
                        continue
                    taken.add(lease.item.id)
                    working.set()
                return taken

            workers = [asyncio.create_task(work()) for _ in range(3)]
            for number in range(300):
                await publish_surely(queue, item(f"i{number}", owner=f"o{number % 7}"))
                if number % 100 == 50:
                    await working.wait()
                    server.kill()
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(server.start)
            async with asyncio.timeout(WAIT_SECONDS):
                while await messages(queue):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            queue.close()
            taken = set[str]().union(*await asyncio.gather(*workers))
            # An item whose end was confirmed to nobody was worked on all the same.
            assert len(taken) >= 300 - 3 * 3


async def test_a_queue_can_be_closed_without_nats(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        async with queues([server]) as (queue,):
            await queue.publish(item("held"))
            await take(queue)
            waiting = asyncio.create_task(queue.take())
            reading = asyncio.create_task(anext(aiter(queue.dead()), None))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            server.kill()
            async with asyncio.timeout(60):
                while queue.connected:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                await queue.aclose()
                assert await waiting is None
                assert await reading is None
            with pytest.raises(Unavailable, match="closed"):
                await queue.publish(item("late"))
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("nats")]
