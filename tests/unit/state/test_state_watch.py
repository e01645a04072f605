"""News of changes, from either store."""

from __future__ import annotations

import asyncio

import pytest
from tests.both_stores import OpenStore

from upscaled_server.errors import InvalidInput, Unavailable
from upscaled_server.state.store import Store
from upscaled_server.state.watching import MAX_UNREAD, Watch, Watches


async def _next(watch: Watch) -> str:
    async with asyncio.timeout(20):
        return await anext(watch)


async def _until(watch: Watch, last: str) -> list[str]:
    found = []
    while not found or found[-1] != last:
        found.append(await _next(watch))
    return found


async def test_every_kind_of_change_is_told(store: Store) -> None:
    with store.watch("jobs") as watch:
        version = await store.create("jobs/a", b"1")
        assert await _next(watch) == "jobs/a"
        version = await store.update("jobs/a", b"2", version)
        assert await _next(watch) == "jobs/a"
        await store.delete("jobs/a", version)
        assert await _next(watch) == "jobs/a"
        assert await store.get("jobs/a") is None


async def test_a_watch_hears_of_its_key_and_those_under_it_only(store: Store) -> None:
    with store.watch("jobs/anna") as watch, store.watch("jobs") as end:
        for key in ("jobs", "jobs/anna", "jobs/anna/1", "jobs/anna-b", "jobs/ann", "other/jobs/anna"):
            await store.create(key, b"")
        await store.create("jobs/z", b"")
        await _until(end, "jobs/z")
        assert await _until(watch, "jobs/anna/1") == ["jobs/anna", "jobs/anna/1"]
        await store.create("jobs/anna/2", b"")
        assert await _next(watch) == "jobs/anna/2"


async def test_what_came_too_late_is_not_told(store: Store) -> None:
    version = await store.create("a", b"")
    with store.watch("a") as watch, store.watch("b") as end:
        with pytest.raises(Exception, match="changed"):
            await store.update("a", b"", version + 100)
        with pytest.raises(Exception, match="there already"):
            await store.create("a", b"")
        await store.create("b", b"")
        assert await _next(end) == "b"
        await store.update("a", b"", version)
        assert await _next(watch) == "a"


async def test_the_entry_is_at_least_as_new_as_the_news(open_store: OpenStore) -> None:
    async with open_store() as store:
        with store.watch("a") as watch:
            version = await store.create("a", b"0")
            for number in range(1, 20):
                await _next(watch)
                entry = await store.get("a")
                assert entry is not None
                assert entry.version >= version
                version = await store.update("a", str(number).encode(), version)


async def test_changes_that_nobody_waits_for_are_told(store: Store) -> None:
    with store.watch("a") as watch:
        for number in range(50):
            change = asyncio.create_task(store.create(f"a/{number:02}", b""))
            await asyncio.sleep(0)
            await asyncio.sleep(number / 50_000)
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)
        await store.create("a/last", b"")
        told = await _until(watch, "a/last")
        assert {entry.key for entry in await store.range("a")} == set(told)
        assert len(told) > 1


async def test_several_changes_of_a_key_are_told_once(store: Store) -> None:
    with store.watch("a") as watch, store.watch("z") as end:
        version = await store.create("a", b"")
        for _ in range(5):
            version = await store.update("a", b"", version)
        await store.create("z", b"")
        await _next(end)
        assert await _next(watch) == "a"
        await store.create("a/last", b"")
        assert (await _until(watch, "a/last")).count("a") <= 1


async def test_a_closed_watch_keeps_nothing(store: Store) -> None:
    with store.watch("a") as watch:
        pass
    await store.create("a", b"")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(watch)


async def test_closing_the_store_ends_every_watch(store: Store) -> None:
    with store.watch("a") as watch:
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        await store.aclose()
        with pytest.raises(Unavailable, match="closed"):
            await waiting


@pytest.mark.parametrize("prefix", ["", "a/", "a.>", "*"])
async def test_only_keys_can_be_watched(store: Store, prefix: str) -> None:
    with pytest.raises(InvalidInput):
        store.watch(prefix)


async def test_a_reader_that_is_far_behind_is_told_the_prefix() -> None:
    watches = Watches()
    with watches.open("a") as watch:
        for number in range(MAX_UNREAD):
            watches.tell(f"a/{number}")
        watches.tell("a/0")
        assert await _next(watch) == "a/0"
        watches.tell("a/0")
        watches.tell("a/beyond")
        assert await _next(watch) == "a"
        watches.tell("a/1")
        assert await _next(watch) == "a/1"
    assert len(watches) == 0
