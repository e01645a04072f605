"""NATS is killed and comes back: nothing that was acknowledged is lost, and the store recovers by itself."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from nats_work import Acknowledged, check, count_until, until_it_answers, write_until
from tests import nats_servers
from tests.nats_servers import settings_for

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats.store import NatsStore


async def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        settings = settings_for([server])
        store, other = await NatsStore.open(settings), await NatsStore.open(settings)
        stop, done = asyncio.Event(), Acknowledged()
        with other.watch("w") as watch:
            work = [
                asyncio.create_task(write_until(store, "w", stop, done)),
                asyncio.create_task(count_until(store, "counter", stop, done)),
                asyncio.create_task(count_until(other, "counter", stop, done)),
            ]
            for _ in range(3):
                await asyncio.sleep(0.5)
                server.kill()
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.start)
                await until_it_answers(store)
            await asyncio.sleep(0.3)
            stop.set()
            await asyncio.gather(*work)
            await until_it_answers(other)
            told = set()
            while not done.versions.keys() <= told and "w" not in told:
                async with asyncio.timeout(20):
                    told.add(await anext(watch))
        assert done.versions
        assert done.counted
        await check(store, "w", done, "counter")
        await check(other, "w", done, "counter")
        await store.aclose()
        await other.aclose()


async def test_without_nats_calls_are_refused_before_their_time_is_up(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        store = await NatsStore.open(settings_for([server], cluster_timeout_seconds=120))
        version = await store.create("a/b", b"")
        server.kill()
        async with asyncio.timeout(60):
            for call in (
                store.get("a/b"),
                store.create("c", b""),
                store.update("a/b", b"", version),
                store.delete("a/b", version),
                store.range("a"),
            ):
                with pytest.raises(Unavailable, match=r"no connection to NATS .* UPSCALED_CLUSTER_URL"):
                    await call
        await asyncio.to_thread(server.start)
        await until_it_answers(store)
        assert [entry.version for entry in await store.range("a")] == [version]
        await store.aclose()


async def test_a_store_can_be_closed_without_nats(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        store = await NatsStore.open(settings_for([server]))
        server.kill()
        async with asyncio.timeout(60):
            await store.aclose()
        with pytest.raises(Unavailable, match="closed"):
            await store.get("a")
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("nats")]


async def test_a_bucket_that_was_put_back_is_read_anew(tmp_path: Path) -> None:
    """Its messages are fewer than the store has seen, and their numbers come again."""
    with nats_servers.nats_server(tmp_path) as server:
        settings = settings_for([server])
        store = await NatsStore.open(settings)
        await store.create("a/kept", b"")
        server.stop()
        await asyncio.to_thread(_copy, tmp_path / "js", tmp_path / "backup")
        await asyncio.to_thread(server.start)
        await until_it_answers(store)
        for number in range(20):
            await store.create(f"a/lost-{number}", b"")
        server.stop()
        await asyncio.to_thread(_copy, tmp_path / "backup", tmp_path / "js")
        await asyncio.to_thread(server.start)
        await until_it_answers(store)
        while len(await store.range("a")) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert await store.get("a/lost-1") is None
        await store.create("a/lost-1", b"again")
        assert [entry.key for entry in await store.range("a")] == ["a/kept", "a/lost-1"]
        await store.aclose()


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
