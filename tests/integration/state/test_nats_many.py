"""Many clients and many keys."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from nats_work import increment
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer

from upscaled_server.state.store import Store


async def test_of_increments_from_four_clients_none_is_lost(nats_server: NatsServer) -> None:
    opened, rounds = nats_opener(nats_server), 100
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened()) for _ in range(4)]

        async def count(store: Store) -> None:
            left = rounds
            while left:
                left -= await increment(store, "counter")

        await asyncio.gather(*(count(store) for store in stores for _ in range(2)))
        for store in stores:
            entry = await store.get("counter")
            assert entry is not None
            assert int(entry.value) == len(stores) * 2 * rounds


@pytest.mark.parametrize("reverse", [False, True])
async def test_ten_thousand_keys_are_paged_by_another_client(nats_server: NatsServer, reverse: bool) -> None:
    opened = nats_opener(nats_server)
    keys = [f"jobs/c{number % 3}/{number:05}" for number in range(10_000)]
    async with opened() as writer:
        for begin in range(0, len(keys), 100):
            await asyncio.gather(*(writer.create(key, key.encode()) for key in keys[begin : begin + 100]))
        async with opened() as reader:
            for limit in (1000, 137):
                found: list[str] = []
                while page := await reader.range(
                    "jobs", after=found[-1] if found else "", limit=limit, reverse=reverse
                ):
                    assert all(entry.value == entry.key.encode() for entry in page)
                    found += [entry.key for entry in page]
                assert found == sorted(keys, reverse=reverse)
