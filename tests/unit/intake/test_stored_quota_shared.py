"""Servers that share a store count what each of them stores for a caller."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer
from tests.reached_store import Reached

from upscaled_server.access.caller import Caller
from upscaled_server.errors import QuotaExceeded
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.state.store import Entry, Store
from upscaled_server.state.watching import MAX_UNREAD

ANNA = Caller("anna", max_stored_bytes=100)
MANY = 5000


@asynccontextmanager
async def following(*stores: Store, max_files: int = MANY) -> AsyncIterator[list[Quotas]]:
    made = [Quotas(store, max_files) for store in stores]
    tasks = [asyncio.create_task(quotas.follow()) for quotas in made]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def keep(quotas: Quotas, name: str, size: int, owner: Caller = ANNA) -> None:
    """A file from its beginning to its end."""
    await quotas.begin(owner, "out", name)
    await quotas.grow(owner, size)
    await quotas.settle(owner.name, "out", name, size, grown=size)


async def stores(quotas: Quotas, size: int) -> None:
    async def holds() -> bool:
        return await quotas.stored_bytes("anna") == size

    await until(holds)


async def counts(quotas: Quotas, files: int) -> None:
    async def holds() -> bool:
        return quotas._usages["anna"].files == files

    await until(holds)


async def test_what_one_server_stores_is_counted_at_all(store: Store) -> None:
    async with following(store, store) as (here, there):
        assert await there.stored_bytes("anna") == 0
        await keep(here, "a", 60)
        await stores(there, 60)
        with pytest.raises(QuotaExceeded) as refused:
            await there.grow(ANNA, 50)
        assert refused.value.numbers["actual"] == 110
        await keep(there, "b", 40)
        await stores(here, 100)
        await here.end("anna", "out", "b")
        await there.end("anna", "out", "a")
        await stores(here, 0)
        await stores(there, 0)


async def test_files_of_all_servers_are_counted_together(store: Store) -> None:
    async with following(store, store, max_files=2) as (here, there):
        await there.stored_bytes("anna")
        for name in ("a", "b"):
            await here.begin(ANNA, "in", name)
        refused = 0

        async def is_refused() -> bool:
            nonlocal refused
            try:
                await there.begin(ANNA, "in", "c")
            except QuotaExceeded:
                refused += 1
            else:
                await there.end("anna", "in", "c")
            return bool(refused)

        await until(is_refused)


async def test_what_is_being_written_here_stays_counted_whatever_others_do(store: Store) -> None:
    async with following(store, store) as (here, there):
        await here.begin(ANNA, "out", "a")
        await here.grow(ANNA, 50)
        await keep(there, "b", 30)
        await stores(here, 80)
        await stores(there, 30)
        await here.settle("anna", "out", "a", 50, grown=50)
        await stores(there, 80)
        assert await here.stored_bytes("anna") == 80


async def test_an_upload_that_goes_on_at_another_server_is_counted_once(store: Store) -> None:
    async with following(store, store) as (here, there):
        await here.begin(ANNA, "in", "a")
        await here.grow(ANNA, 20)
        await here.settle("anna", "in", "a", 20, grown=20)
        await there.begin(ANNA, "in", "a")
        await there.grow(ANNA, 30)
        await there.settle("anna", "in", "a", 50, grown=30)
        for quotas in (here, there):
            await stores(quotas, 50)


async def test_beyond_the_limit_goes_what_is_brought_elsewhere_at_the_same_time_and_no_more(
    store: Store,
) -> None:
    async with following(store, store) as (here, there):
        for quotas in (here, there):
            await quotas.stored_bytes("anna")
        await asyncio.gather(keep(here, "a", 100), keep(there, "b", 100))
        for quotas in (here, there):
            await stores(quotas, 200)
            with pytest.raises(QuotaExceeded):
                await quotas.grow(ANNA, 1)


async def test_what_was_stored_before_it_followed_is_known(store: Store) -> None:
    alone = Quotas(store, MANY)
    await keep(alone, "a", 10)
    here = Quotas(store, MANY)
    assert await here.stored_bytes("anna") == 10
    await here.grow(ANNA, 5)
    await keep(alone, "b", 20)
    task = asyncio.create_task(here.follow())
    await stores(here, 35)
    await here.shrink("anna", 5)
    await stores(here, 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await here.stored_bytes("anna") == 30


async def test_what_is_heard_late_of_an_own_change_does_not_undo_a_later_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Reached(store)
    written, go = asyncio.Event(), asyncio.Event()

    async def update(key: str, value: bytes, version: int) -> int:
        changed = await store.update(key, value, version)
        written.set()
        await go.wait()
        return changed

    monkeypatch.setattr(slow, "update", update, raising=False)
    async with following(slow, store) as (here, there):
        await here.begin(ANNA, "in", "a")
        settling = asyncio.create_task(here.settle("anna", "in", "a", 50))
        await written.wait()
        await there.settle("anna", "in", "a", 90)
        await stores(here, 90)
        go.set()
        await settling
        assert await here.stored_bytes("anna") == 90


async def test_what_is_deleted_while_a_server_reads_is_not_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Reached(store)
    read, go = asyncio.Event(), asyncio.Event()

    async def read_slowly(prefix: str, **options: Any) -> list[Entry]:
        page = await store.range(prefix, **options)
        if prefix == "stored/anna" and not read.is_set():
            read.set()
            await go.wait()
        return page

    monkeypatch.setattr(slow, "range", read_slowly, raising=False)
    async with following(slow, store) as (here, there):
        await keep(there, "a", 60)
        await here.stored_bytes("ben")
        reading = asyncio.create_task(here.stored_bytes("anna"))
        await read.wait()
        await there.end("anna", "out", "a")
        await keep(there, "b", 5, Caller("ben"))
        await asyncio.sleep(0.1)  # for what was told to be taken, if nothing keeps it from that
        go.set()
        await reading
        await stores(here, 0)


async def test_a_server_that_is_far_behind_counts_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Caller("anna")
    async with following(store, store) as (here, there):
        await here.stored_bytes("anna")
        get, go = store.get, asyncio.Event()

        async def held(key: str) -> Entry | None:
            await go.wait()
            return await get(key)

        await keep(there, "first", 7)
        await stores(here, 7)
        monkeypatch.setattr(store, "get", held)
        for begin in range(0, MAX_UNREAD + 50, 50):
            await asyncio.gather(*(there.begin(nobody, "out", f"f{begin + n}") for n in range(50)))
        go.set()
        await there.end("anna", "out", "first")
        await stores(here, 0)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_servers_do_at_once_they_agree_in_the_end(store: Store, seed: int) -> None:
    async with following(store, store, store) as made:
        await _work_at_random(made, store, random.Random(seed))


async def test_so_do_servers_with_clients_of_their_own(nats_server: NatsServer) -> None:
    opened = nats_opener(nats_server)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(opened()) for _ in range(3)]
        made = await stack.enter_async_context(following(*clients))
        await _work_at_random(made, clients[0], random.Random(11))


async def _work_at_random(made: list[Quotas], store: Store, chance: random.Random) -> None:
    owner = Caller("anna")

    async def work() -> None:
        quotas, name = chance.choice(made), f"f{chance.randrange(8)}"
        match chance.randrange(4):
            case 0:
                await quotas.begin(owner, "out", name)
            case 1:
                size = chance.randrange(50)
                await quotas.grow(owner, size)
                await quotas.settle("anna", "out", name, chance.randrange(100), grown=size)
            case 2:
                await quotas.end("anna", "out", name)
            case 3:
                size = chance.randrange(50)
                await quotas.grow(owner, size)
                await asyncio.sleep(chance.random() / 500)
                await quotas.shrink("anna", size)

    for _ in range(25):
        await asyncio.gather(*(work() for _ in range(5)))
    entries = await store.range("stored/anna")
    total = await Quotas(store, MANY).stored_bytes("anna")
    for quotas in made:
        await stores(quotas, total)
        await counts(quotas, len(entries))
