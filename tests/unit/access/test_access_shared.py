"""What one server changes of callers and keys, the others that share the store know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer
from tests.reached_store import Reached

from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.directory import Directory
from upscaled_server.access.keys import digest
from upscaled_server.access.settings import AccessSettings
from upscaled_server.errors import AlreadyExists, Conflict, NotFound, Unauthenticated, Unavailable
from upscaled_server.state.store import Entry, Store
from upscaled_server.state.watching import MAX_UNREAD

ANNA = Caller("anna", weight=2.0)


@asynccontextmanager
async def following(*stores: Store, clock: Any) -> AsyncIterator[list[Directory]]:
    """One directory per server, as it is when the server serves."""
    made = [Directory(store, clock) for store in stores]
    tasks = []
    for directory in made:
        await directory.load()
        tasks.append(asyncio.create_task(directory.follow()))
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def knows(directory: Directory, name: str) -> bool:
    return any(record.caller.name == name for record in directory.callers())


async def test_a_caller_that_one_server_makes_changes_and_deletes_is_so_at_all(
    store: Store, clock: Any
) -> None:
    async with following(store, store, clock=clock) as (here, there):
        made = await here.create_caller(ANNA)
        await until(lambda: knows(there, "anna"))
        assert there.caller("anna") == made
        changed = await there.update_caller(replace(ANNA, weight=5.0), made.etag)
        await until(lambda: here.caller("anna") == changed)
        await here.delete_caller("anna")
        await until(lambda: not knows(there, "anna"))
        assert await there.create_caller(ANNA) != made
        await until(lambda: knows(here, "anna"))


async def test_a_key_works_at_every_server_and_ends_at_every_server(store: Store, clock: Any) -> None:
    async with following(store, store, clock=clock) as (here, there):
        access = Access(there, AccessSettings(), wall_clock=clock)
        ended: list[str] = []
        there.on_end = ended.append
        assert not access.needs_key
        await here.create_caller(ANNA)
        key, whole = await here.create_key("anna")
        await until(lambda: there.find_key(digest(whole)) is not None)
        assert access.identify(f"Bearer {whole}").caller == ANNA
        with pytest.raises(Unauthenticated, match="no key"):
            access.identify(None)
        await here.revoke_key(key.id)
        await until(lambda: ended == [key.id])
        with pytest.raises(Unauthenticated, match="revoked"):
            access.identify(f"Bearer {whole}")


async def test_a_rotated_key_has_its_new_end_everywhere(store: Store, clock: Any) -> None:
    async with following(store, store, clock=clock) as (here, there):
        await here.create_caller(ANNA)
        old, _ = await here.create_key("anna")
        await until(lambda: there.find_key(old.digest) is not None)
        new, _ = await there.rotate_key(old.id, 60.0)
        await until(lambda: here.find_key(new.digest) is not None)
        await until(lambda: _expires(here, old.digest) == clock.now + 60)


async def test_a_deleted_caller_ends_its_keys_everywhere(store: Store, clock: Any) -> None:
    async with following(store, store, clock=clock) as (here, there):
        ended: list[str] = []
        there.on_end = ended.append
        await here.create_caller(ANNA)
        keys = [(await here.create_key("anna"))[0] for _ in range(3)]
        await until(lambda: len(there.keys_of("anna")) == 3)
        await here.delete_caller("anna")
        await until(lambda: sorted(ended) == sorted(key.id for key in keys))
        assert there.keys_of() == []


async def test_servers_that_have_not_heard_of_each_other_change_what_is_there(
    store: Store, clock: Any
) -> None:
    here, there = Directory(store, clock), Directory(store, clock)
    await here.create_caller(ANNA)
    old, _ = await here.create_key("anna")
    other, _ = await here.create_key("anna")
    await there.load()
    await here.update_caller(replace(ANNA, weight=3.0))
    here.note_use(old)
    await here.flush_uses()
    # What was read is not what is there any more.
    assert (await there.update_caller(replace(ANNA, weight=4.0))).caller.weight == 4.0
    assert (await there.revoke_key(old.id)).revoked == clock.now
    with pytest.raises(Conflict, match="read it again"):
        await here.update_caller(replace(ANNA, weight=9.0), here.caller("anna").etag)
    assert here.caller("anna").caller.weight == 4.0
    with pytest.raises(AlreadyExists):
        await here.create_caller(ANNA)
    await here.rotate_key(other.id, 60.0)
    await there.delete_caller("anna")
    assert await store.range("keys") == []
    with pytest.raises(NotFound):
        await here.update_caller(ANNA)
    with pytest.raises(NotFound):
        await here.create_key("anna")
    with pytest.raises(NotFound):
        await here.revoke_key(other.id)
    assert await store.range("keys") == []


async def test_the_latest_use_of_a_key_stays_whoever_writes_it_down(store: Store, clock: Any) -> None:
    here, there = Directory(store, clock), Directory(store, clock)
    await here.create_caller(ANNA)
    key, _ = await here.create_key("anna")
    await there.load()
    early = clock.now
    here.note_use(key)
    clock.now += 600
    there.note_use(key)
    late = clock.now - clock.now % 60
    await there.flush_uses()
    await here.flush_uses()
    again = Directory(store, clock)
    await again.load()
    assert again.keys_of()[0].last_used == late
    assert early < late
    assert here.keys_of()[0].last_used == late
    version = (await store.range("keys"))[0].version
    await here.flush_uses()
    await there.flush_uses()
    assert (await store.range("keys"))[0].version == version


async def test_uses_of_the_same_minute_are_written_once(store: Store, clock: Any) -> None:
    async with following(store, store, clock=clock) as (here, there):
        await here.create_caller(ANNA)
        key, _ = await here.create_key("anna")
        await until(lambda: there.find_key(key.digest) is not None)
        here.note_use(key)
        await here.flush_uses()
        await until(lambda: there.keys_of()[0].last_used is not None)
        version = (await store.range("keys"))[0].version
        known = there.find_key(key.digest)
        assert known is not None
        there.note_use(known)
        await there.flush_uses()
        assert (await store.range("keys"))[0].version == version


async def test_a_revoked_key_stays_revoked_when_another_server_writes_down_its_use(
    store: Store, clock: Any
) -> None:
    here, there = Directory(store, clock), Directory(store, clock)
    await here.create_caller(ANNA)
    key, _ = await here.create_key("anna")
    await there.load()
    await here.revoke_key(key.id)
    there.note_use(key)
    await there.flush_uses()
    known = there.find_key(key.digest)
    assert known is not None
    assert known.revoked == clock.now
    assert known.last_used is not None


async def test_a_key_that_is_made_while_its_caller_is_deleted_elsewhere_is_not_left(
    store: Store, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Directory(store, clock), Directory(Reached(store), clock)
    await here.create_caller(ANNA)
    await there.load()
    create = store.create

    async def deleted_meanwhile(key: str, value: bytes) -> int:
        await here.delete_caller("anna")
        return await create(key, value)

    monkeypatch.setattr(store, "create", deleted_meanwhile)
    with pytest.raises(NotFound):
        await there.create_key("anna")
    assert await store.range("keys") == []


async def test_what_was_changed_while_the_store_was_away_is_known_when_it_is_back(
    store: Store, clock: Any
) -> None:
    reached = Reached(store)
    async with following(store, reached, clock=clock) as (here, there):
        await here.create_caller(ANNA)
        key, _ = await here.create_key("anna")
        await until(lambda: there.find_key(key.digest) is not None)
        reached.become("away")
        await here.revoke_key(key.id)
        with pytest.raises(Unavailable):
            await there.create_caller(Caller("ben"))
        reached.become("near")
        await until(lambda: there.keys_of()[0].revoked is not None)


async def test_a_server_that_is_far_behind_reads_everything_again(
    store: Store, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(store, store, clock=clock) as (here, there):
        await here.create_caller(ANNA)
        await until(lambda: knows(there, "anna"))
        get, go = store.get, asyncio.Event()

        async def held(key: str) -> Entry | None:
            await go.wait()
            return await get(key)

        monkeypatch.setattr(store, "get", held)
        for begin in range(0, MAX_UNREAD + 40, 40):
            await asyncio.gather(*(here.create_caller(Caller(f"c{begin + n}")) for n in range(40)))
        await here.delete_caller("anna")
        go.set()
        await until(lambda: len(there.callers()) == len(here.callers()))
        assert there.callers() == here.callers()


async def test_an_entry_that_cannot_be_read_leaves_the_others_known(store: Store, clock: Any) -> None:
    async with following(store, store, clock=clock) as (here, there):
        await store.create("callers/broken", b"?")
        await here.create_caller(ANNA)
        await until(lambda: knows(there, "anna"))


async def test_servers_with_clients_of_their_own_know_it_too(nats_server: NatsServer, clock: Any) -> None:
    opened = nats_opener(nats_server)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened()) for _ in range(3)]
        directories = await stack.enter_async_context(following(*stores, clock=clock))
        await directories[0].create_caller(ANNA)
        await until(lambda: all(knows(each, "anna") for each in directories))
        for number, directory in enumerate(directories):
            key, _ = await directory.create_key("anna")
            await until(lambda key=key: all(each.find_key(key.digest) for each in directories))  # type: ignore[misc]
            await directories[number - 1].revoke_key(key.id)
            await until(
                lambda key=key: all(_is_revoked(each, key.digest) for each in directories)  # type: ignore[misc]
            )


def _is_revoked(directory: Directory, digest: bytes) -> bool:
    key = directory.find_key(digest)
    return key is not None and key.revoked is not None


def _expires(directory: Directory, digest: bytes) -> float | None:
    key = directory.find_key(digest)
    return None if key is None else key.expires
