"""What is kept in memory of the store is what is in it, whoever changes it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer

from upscaled_server.errors import Unavailable
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged
from upscaled_server.state.watching import MAX_UNREAD


class Copy:
    """All under `a/`, in memory."""

    def __init__(self, store: Store, **options: Any) -> None:
        self.entries: dict[str, bytes] = {}
        self.taken: list[str] = []
        self.reloads = 0
        self.changed = asyncio.Event()
        self._store = store
        self.reader = ChangeReader(store, "a", self._take, self._reload, **options)

    def _take(self, key: str, entry: Entry | None) -> None:
        self.taken.append(key)
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry.value
        self.changed.set()

    async def _reload(self) -> None:
        self.reloads += 1
        self.entries = await everything(self._store)


async def copied(store: Store, **options: Any) -> Copy:
    """One that has read everything."""
    copy = Copy(store, **options)
    await copy.reader.catch_up()
    return copy


async def everything(store: Store) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    last = ""
    while page := await store.range("a", after=last):
        found |= {entry.key: entry.value for entry in page}
        last = page[-1].key
    return found


async def change(store: Store, chance: random.Random, keys: int) -> None:
    key = f"a/{chance.randrange(keys)}"
    try:
        entry = await store.get(key)
        if entry is None:
            await store.create(key, str(chance.random()).encode())
        elif chance.random() < 0.5:
            await store.update(key, str(chance.random()).encode(), entry.version)
        else:
            await store.delete(key, entry.version)
    except (KeyExists, VersionChanged):
        pass


async def test_every_change_is_taken_as_it_is_now(store: Store) -> None:
    copy = await copied(store)
    version = await store.create("a/1", b"one")
    await store.update("a/1", b"two", version)
    gone = await store.create("a/2", b"")
    await store.delete("a/2", gone)
    await store.create("b/1", b"")
    await copy.reader.catch_up()
    assert copy.entries == {"a/1": b"two"}
    assert sorted(copy.taken) == ["a/1", "a/2"]
    await copy.reader.catch_up()
    assert len(copy.taken) == 2
    copy.reader.close()


async def test_what_was_there_before_is_read_first(store: Store) -> None:
    await store.create("a/1", b"one")
    copy = await copied(store)
    assert (copy.entries, copy.taken, copy.reloads) == ({"a/1": b"one"}, [], 1)
    copy.reader.close()


async def test_only_what_is_wanted_is_read(store: Store) -> None:
    copy = await copied(store, wanted=lambda key: key.startswith("a/yes"))
    for key in ("a/yes-1", "a/no-1", "a/yes-2"):
        await store.create(key, b"")
    await copy.reader.catch_up()
    assert sorted(copy.entries) == ["a/yes-1", "a/yes-2"]
    copy.reader.close()


async def test_too_many_changes_are_read_all_at_once(store: Store) -> None:
    copy = await copied(store)
    for begin in range(0, MAX_UNREAD + 10, 101):
        await asyncio.gather(*(store.create(f"a/{begin + number}", b"x") for number in range(101)))
    await copy.reader.catch_up()
    assert copy.reloads == 2
    assert copy.taken == []
    await store.create("a/more", b"")
    await copy.reader.catch_up()
    assert copy.entries == await everything(store)
    assert (copy.reloads, copy.taken) == (2, ["a/more"])
    copy.reader.close()


async def test_what_was_changed_while_it_was_read_is_not_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, get = await copied(store), store.get
    version = await store.create("a/1", b"old")

    async def slow(key: str) -> Entry | None:
        entry = await get(key)
        if entry is not None:
            await store.delete(key, version)
        return entry

    monkeypatch.setattr(store, "get", slow)
    await copy.reader.catch_up()
    assert copy.taken == []
    await copy.reader.catch_up()
    assert copy.taken == ["a/1"]
    assert copy.entries == {}
    copy.reader.close()


@pytest.mark.parametrize("error", [Unavailable("away"), asyncio.CancelledError()])
async def test_what_could_not_be_read_is_read_the_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    copy, get, failures = await copied(store), store.get, [error]
    for number in range(40):
        await store.create(f"a/{number:02}", b"")

    async def failing(key: str) -> Entry | None:
        if key == "a/35" and failures:
            raise failures.pop()
        return await get(key)

    monkeypatch.setattr(store, "get", failing)
    with pytest.raises(type(error)):
        await copy.reader.catch_up()
    await copy.reader.catch_up()
    assert len(copy.entries) == 40
    copy.reader.close()


async def test_who_catches_up_at_the_same_time_waits_for_what_is_being_read(store: Store) -> None:
    copy = await copied(store)
    await store.create("a/1", b"")

    async def caught_up() -> bool:
        await copy.reader.catch_up()
        return "a/1" in copy.entries

    assert await asyncio.gather(*(caught_up() for _ in range(5))) == [True] * 5
    assert copy.taken == ["a/1"]
    copy.reader.close()


async def test_it_follows_by_itself_through_a_time_without_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, get, failures = await copied(store), store.get, [Unavailable("away")]

    async def failing(key: str) -> Entry | None:
        if failures:
            raise failures.pop()
        return await get(key)

    monkeypatch.setattr(store, "get", failing)
    following = asyncio.create_task(copy.reader.follow())
    await store.create("a/1", b"one")
    async with asyncio.timeout(20):
        await copy.changed.wait()
    assert copy.entries == {"a/1": b"one"}
    following.cancel()
    await asyncio.wait([following])
    copy.reader.close()


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_changes_what_the_copy_is_right_after_catching_up(store: Store, seed: int) -> None:
    copy, chance = await copied(store), random.Random(seed)
    ended = False

    async def now_and_then() -> None:
        while not ended:
            await copy.reader.catch_up()
            await asyncio.sleep(chance.random() / 1000)

    reading = [asyncio.create_task(now_and_then()) for _ in range(2)]
    for _ in range(60):
        await asyncio.gather(*(change(store, chance, 6) for _ in range(4)))
    ended = True
    await asyncio.gather(*reading)
    await copy.reader.catch_up()
    assert copy.entries == await everything(store)
    copy.reader.close()


async def test_what_another_replica_changed_is_told_before_a_range_returns(nats_server: NatsServer) -> None:
    opened, chance = nats_opener(nats_server), random.Random(1)
    async with opened() as here, opened() as there:
        copy = Copy(here)
        for _ in range(100):
            await change(there, chance, 5)
            await here.range("other")
            await copy.reader.catch_up()
            assert copy.entries == await everything(there)
        copy.reader.close()
