"""A connection that falls silent, loses an answer, or is ended by an error of the protocol."""

from __future__ import annotations

import asyncio

import pytest
from holding_proxy import holding_proxy
from nats_work import increment, until_it_answers
from tests.nats_servers import NatsServer, settings_for

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats import connection
from upscaled_server.state.nats.store import NatsStore


async def test_a_change_whose_answer_was_lost_is_made_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is asked again because the connection ended, not because time passed.
    monkeypatch.setattr(connection, "_ATTEMPT_SECONDS", 1000.0)
    async with holding_proxy(nats_server.port) as proxy:
        store = await NatsStore.open(settings_for([nats_server], cluster_url=proxy.url))
        version = await store.create("a", b"0")
        for number in range(1, 6):
            proxy.answers = False
            change = asyncio.create_task(store.update("a", str(number).encode(), version))
            await asyncio.sleep(0.05)
            assert not change.done()
            proxy.go_on()
            version = await change
            entry = await store.get("a")
            assert entry is not None
            assert (entry.value, entry.version) == (str(number).encode(), version)
        # One message for each change: none was stored twice.
        assert version == 2 + 5
        await store.aclose()


async def test_a_creation_and_a_deletion_whose_answers_were_lost_succeed(nats_server: NatsServer) -> None:
    async with holding_proxy(nats_server.port) as proxy:
        store = await NatsStore.open(settings_for([nats_server], cluster_url=proxy.url))
        for work in (lambda: store.create("a", b""), lambda: store.delete("a", 2)):
            proxy.answers = False
            change = asyncio.create_task(work())  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            proxy.go_on()
            assert await change in (2, None)
        assert await store.get("a") is None
        await store.aclose()


async def test_a_silent_connection_is_refused_and_then_used_again(nats_server: NatsServer) -> None:
    async with holding_proxy(nats_server.port) as proxy:
        settings = settings_for([nats_server], cluster_url=proxy.url, cluster_timeout_seconds=2)
        store = await NatsStore.open(settings)
        assert await increment(store, "a") == 1
        proxy.hold()
        with pytest.raises(Unavailable, match="did not answer within 2 s: a could not be read"):
            await store.get("a")
        # Others are not kept waiting as long.
        with pytest.raises(Unavailable, match="did not answer within 1 s"):
            await store.get("a")
        proxy.go_on()
        await until_it_answers(store)
        assert await increment(store, "a") == 1
        entry = await store.get("a")
        assert entry is not None
        assert entry.value == b"2"
        await store.aclose()


async def test_a_connection_that_is_closed_for_good_is_made_anew(nats_server: NatsServer) -> None:
    store = await NatsStore.open(settings_for([nats_server]))
    await store.create("a/b", b"")
    for _ in range(3):
        client = store._connection.client
        client._transport.write(b"NONSENSE\r\n")  # type: ignore[union-attr]
        async with asyncio.timeout(30):
            while store._connection.client is client:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until_it_answers(store)
        assert len(await store.range("a")) == 1
    await store.aclose()
