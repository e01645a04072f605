"""What every store promises."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.both_stores import OpenStore

from upscaled_server.errors import InvalidInput, Unavailable
from upscaled_server.state.store import MAX_VALUE_BYTES, Entry, KeyExists, Store, VersionChanged, check_key

KEYS = ["jobs/anna/01", "jobs/anna/02", "jobs/anna/03", "jobs/anna-b/01", "jobs/ben/00", "jobsx/a"]


async def test_what_was_created_is_read_back(store: Store) -> None:
    version = await store.create("callers/anna", b"\x00\xff")
    entry = await store.get("callers/anna")
    assert entry is not None
    assert (entry.key, entry.value, entry.version) == ("callers/anna", b"\x00\xff", version)
    assert await store.get("callers/ben") is None


async def test_a_key_is_created_once(store: Store) -> None:
    await store.create("a", b"1")
    with pytest.raises(KeyExists):
        await store.create("a", b"2")
    entry = await store.get("a")
    assert entry is not None
    assert entry.value == b"1"


async def test_only_who_read_the_last_version_may_change_it(store: Store) -> None:
    first = await store.create("a", b"1")
    second = await store.update("a", b"2", first)
    assert second > first
    with pytest.raises(VersionChanged):
        await store.update("a", b"3", first)
    with pytest.raises(VersionChanged):
        await store.delete("a", first)
    await store.delete("a", second)
    assert await store.get("a") is None
    with pytest.raises(VersionChanged):
        await store.update("a", b"3", second)


async def test_versions_go_on_growing_over_a_deletion(store: Store) -> None:
    first = await store.create("a", b"1")
    await store.delete("a", first)
    assert await store.create("a", b"1") > first


async def test_of_many_who_change_one_version_one_wins(store: Store) -> None:
    version = await store.create("a", b"")
    changes = [store.update("a", bytes([number]), version) for number in range(20)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(each, int) for each in outcomes) == 1
    assert sum(isinstance(each, VersionChanged) for each in outcomes) == 19


async def test_a_range_has_one_prefix_in_the_order_of_keys(store: Store) -> None:
    for key in reversed(KEYS):
        await store.create(key, key.encode())
    assert [entry.key for entry in await store.range("jobs/anna")] == KEYS[:3]
    assert [entry.key for entry in await store.range("jobs")] == sorted(KEYS[:5])
    assert [entry.key for entry in await store.range("jobs/anna", reverse=True)] == KEYS[2::-1]


@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_of_a_range_join_to_the_whole(store: Store, reverse: bool) -> None:
    for key in KEYS:
        await store.create(key, b"")
    found: list[str] = []
    while page := await store.range("jobs", after=found[-1] if found else "", limit=2, reverse=reverse):
        found += [entry.key for entry in page]
    assert found == sorted(KEYS[:5], reverse=reverse)


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "a b", "a\n", "ä", "../a", "a" * 513, "a\0"])
async def test_what_cannot_be_a_key_is_refused(store: Store, key: str) -> None:
    with pytest.raises(InvalidInput):
        await store.create(key, b"")


async def test_a_value_above_the_limit_is_refused(store: Store) -> None:
    await store.create("a", bytes(MAX_VALUE_BYTES))
    with pytest.raises(InvalidInput, match="too large"):
        await store.create("b", bytes(MAX_VALUE_BYTES + 1))


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.aclose()
    await store.aclose()
    with pytest.raises(Unavailable):
        await store.get("a")
    with pytest.raises(Unavailable):
        store.watch("a")


async def test_no_entry_is_at_version_0(store: Store) -> None:
    with pytest.raises(VersionChanged):
        await store.update("a", b"", 0)
    with pytest.raises(VersionChanged):
        await store.delete("a", 0)
    assert await store.get("a") is None


async def test_what_was_written_outlives_the_store(open_store: OpenStore) -> None:
    async with open_store() as store:
        version = await store.create("a/b", b"1")
        await store.delete("a/b", version)
        last = await store.create("a/b", b"2")
    async with open_store() as store:
        assert await store.get("a/b") == Entry("a/b", b"2", last)
        assert await store.range("a") == [Entry("a/b", b"2", last)]


async def test_a_deleted_key_is_made_once_by_many_at_once(store: Store) -> None:
    await store.delete("a", await store.create("a", b""))
    outcomes = await asyncio.gather(
        *(store.create("a", bytes([number])) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, int) for each in outcomes) == 1
    assert sum(isinstance(each, KeyExists) for each in outcomes) == 19


async def test_a_range_holds_what_another_just_wrote(open_store: OpenStore) -> None:
    async with open_store() as one, open_store() as other:
        for number in range(50):
            version = await one.create(f"a/{number:02}", b"")
            assert [entry.version for entry in await other.range("a")] == [version]
            await one.delete(f"a/{number:02}", version)
            assert await other.range("a") == []


async def test_ranges_stay_whole_while_keys_come_and_go(open_store: OpenStore) -> None:
    async with open_store() as one, open_store() as other:
        stays = [f"a/{number:03}" for number in range(0, 100, 2)]
        for key in stays:
            await one.create(key, key.encode())

        async def come_and_go() -> None:
            for number in range(1, 100, 2):
                await one.delete(f"a/{number:03}", await one.create(f"a/{number:03}", b""))

        changes = asyncio.create_task(come_and_go())
        while not changes.done():
            seen: list[str] = []
            while page := await other.range("a", after=seen[-1] if seen else "", limit=7):
                seen += [entry.key for entry in page]
            assert [key for key in seen if key in stays] == stays
            assert seen == sorted(set(seen))
        await changes


@pytest.mark.parametrize("key", ["a/" * 255 + "a", "-/=/_", "A/a", "x" * 512])
async def test_every_key_that_is_allowed_can_be_used(store: Store, key: str) -> None:
    version = await store.create(key, b"1")
    assert await store.get(key) == Entry(key, b"1", version)
    if "/" in key:
        assert await store.range(key.partition("/")[0]) == [Entry(key, b"1", version)]
    await store.delete(key, version)
    assert await store.get(key) is None


@given(st.lists(st.from_regex(r"[A-Za-z0-9_=-]{1,9}", fullmatch=True), min_size=1, max_size=5))
def test_parts_joined_by_slashes_are_a_key(parts: list[str]) -> None:
    check_key("/".join(parts))


async def test_a_range_shows_every_change_with_a_lower_version_than_one_that_has_returned(
    store: Store,
) -> None:
    async def changed(number: int) -> list[tuple[int, set[int]]]:
        version = await store.create(f"a/{number}", b"")
        seen = {entry.version for entry in await store.range("a")}
        return [(version, seen)]

    found = [each for made in await asyncio.gather(*map(changed, range(40))) for each in made]
    versions = {version for version, _ in found}
    assert len(versions) == 40
    for version, seen in found:
        assert {each for each in versions if each <= version} <= seen
