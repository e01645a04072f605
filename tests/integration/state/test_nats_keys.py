"""The keys in memory stay those of the stream: over gaps, and where markers of deletions are removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from holding_proxy import holding_proxy
from nats_work import until_it_answers
from tests import nats_servers
from tests.nats_servers import NatsServer, settings_for

from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore


@asynccontextmanager
async def _opened(settings: ClusterSettings, **options: float) -> AsyncIterator[NatsStore]:
    """Nothing is swept unless the test does."""
    store = await NatsStore.open(settings, **({"sweep_seconds": 3600.0} | options))
    try:
        yield store
    finally:
        await store.aclose()


async def _messages(store: NatsStore) -> int:
    info = await store._connection.ask(lambda js: js.stream_info(store._subjects.stream))
    return int(info.state.messages)


async def _sweep(store: NatsStore) -> int:
    await store.range("anything")
    return await store._sweeper.sweep()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_deletions_leave_nothing_behind(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with (
        _opened(settings, keep_deletions_seconds=0) as one,
        _opened(settings, keep_deletions_seconds=0) as other,
    ):
        kept = await one.create("a/kept", b"")
        versions = {f"a/{number}": await one.create(f"a/{number}", b"") for number in range(50)}
        for key, version in versions.items():
            await one.delete(key, version)
        again = await other.create("a/7", b"again")
        assert await _messages(one) == 1 + 1 + 50
        await other.range("anything")
        # The one that is first does it for both.
        assert sorted([await _sweep(one), await _sweep(other)]) == [0, 49]
        assert await _messages(one) == 1 + 2 + 1
        for store in (one, other):
            assert {entry.key: entry.version for entry in await store.range("a")} == {
                "a/kept": kept,
                "a/7": again,
            }
        assert again > versions["a/7"]
        assert await other.create("a/8", b"") > versions["a/8"]


async def test_markers_stay_for_those_who_may_not_have_seen_them(nats_server: NatsServer) -> None:
    async with _opened(settings_for([nats_server])) as store:
        await store.delete("a", await store.create("a", b""))
        assert await _sweep(store) == 0
        assert await _messages(store) == 2


async def test_who_missed_removed_markers_reads_all_keys_anew(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with holding_proxy(nats_server.port) as proxy:
        away_settings = settings.model_copy(update={"cluster_url": proxy.url})
        async with _opened(settings, keep_deletions_seconds=0) as here, _opened(away_settings) as away:
            versions = {f"a/{number}": await here.create(f"a/{number}", b"") for number in range(20)}
            assert len(await away.range("a")) == 20
            builds = away._feed.builds
            with away.watch("a/3") as watch:
                proxy.hold()
                for key, version in versions.items():
                    await here.delete(key, version)
                assert await _sweep(here) == 20
                proxy.go_on()
                await until_it_answers(away)
                await _until(lambda: away._feed.builds == builds + 1)
                assert await away.range("a") == []
                async with asyncio.timeout(20):
                    assert await anext(watch) == "a/3"


async def test_a_short_silence_costs_no_reading_anew(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with holding_proxy(nats_server.port) as proxy:
        away_settings = settings.model_copy(update={"cluster_url": proxy.url})
        async with _opened(settings) as here, _opened(away_settings) as away:
            builds = away._feed.builds
            gone = await here.create("a/gone", b"")
            assert len(await away.range("a")) == 1
            proxy.hold()
            await here.delete("a/gone", gone)
            last = await here.create("a/new", b"")
            proxy.go_on()
            await until_it_answers(away)
            assert [entry.version for entry in await away.range("a")] == [last]
            assert away._feed.builds == builds


async def test_what_no_consumer_has_told_yet_is_seen_all_the_same(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    async with _opened(settings) as here, _opened(settings) as there:
        version = await here.create("a/gone", b"")
        assert len(await there.range("a")) == 1
        await _end_consumers(there)
        await here.delete("a/gone", version)
        # Nor does it know of the marker that it takes the place of.
        assert await there.create("a/gone", b"again") > version
        await _end_consumers(there)
        await here.create("a/new", b"")
        assert [entry.key for entry in await there.range("a")] == ["a/gone", "a/new"]


async def _end_consumers(store: NatsStore) -> None:
    """Nobody hears of a change any more, until that is noticed."""
    js = store._connection.client.jetstream()
    for consumer in await js.consumers_info(store._subjects.stream):
        await js.delete_consumer(store._subjects.stream, consumer.name)


async def test_no_consumer_is_left_behind(tmp_path: Path) -> None:
    with nats_servers.nats_server(tmp_path) as server:
        settings = settings_for([server])
        async with _opened(settings) as store:
            for _ in range(3):
                async with _opened(settings):
                    pass
            consumers = await store._connection.client.jetstream().consumers_info(store._subjects.stream)
            assert len(consumers) == 1
