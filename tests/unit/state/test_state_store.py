"""What every store promises, on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import InvalidInput, Unavailable
from upscaled_server.state.sqlite import SqliteStore
from upscaled_server.state.store import MAX_VALUE_BYTES, KeyExists, VersionChanged, check_key

KEYS = ["jobs/anna/01", "jobs/anna/02", "jobs/anna/03", "jobs/anna-b/01", "jobs/ben/00", "jobsx/a"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "state.db")
    yield store
    await store.aclose()


async def test_what_was_created_is_read_back(store: SqliteStore) -> None:
    version = await store.create("callers/anna", b"\x00\xff")
    entry = await store.get("callers/anna")
    assert entry is not None
    assert (entry.key, entry.value, entry.version) == ("callers/anna", b"\x00\xff", version)
    assert await store.get("callers/ben") is None


async def test_a_key_is_created_once(store: SqliteStore) -> None:
    await store.create("a", b"1")
    with pytest.raises(KeyExists):
        await store.create("a", b"2")
    entry = await store.get("a")
    assert entry is not None
    assert entry.value == b"1"


async def test_only_who_read_the_last_version_may_change_it(store: SqliteStore) -> None:
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


async def test_versions_go_on_growing_over_a_deletion(store: SqliteStore) -> None:
    first = await store.create("a", b"1")
    await store.delete("a", first)
    assert await store.create("a", b"1") > first


async def test_of_many_who_change_one_version_one_wins(store: SqliteStore) -> None:
    version = await store.create("a", b"")
    changes = [store.update("a", bytes([number]), version) for number in range(20)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(each, int) for each in outcomes) == 1
    assert sum(isinstance(each, VersionChanged) for each in outcomes) == 19


async def test_a_range_has_one_prefix_in_the_order_of_keys(store: SqliteStore) -> None:
    for key in reversed(KEYS):
        await store.create(key, key.encode())
    assert [entry.key for entry in await store.range("jobs/anna")] == KEYS[:3]
    assert [entry.key for entry in await store.range("jobs")] == sorted(KEYS[:5])
    assert [entry.key for entry in await store.range("jobs/anna", reverse=True)] == KEYS[2::-1]


@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_of_a_range_join_to_the_whole(store: SqliteStore, reverse: bool) -> None:
    for key in KEYS:
        await store.create(key, b"")
    found: list[str] = []
    while page := await store.range("jobs", after=found[-1] if found else "", limit=2, reverse=reverse):
        found += [entry.key for entry in page]
    assert found == sorted(KEYS[:5], reverse=reverse)


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "a b", "a\n", "ä", "../a", "a" * 513, "a\0"])
async def test_what_cannot_be_a_key_is_refused(store: SqliteStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        await store.create(key, b"")


async def test_a_value_above_the_limit_is_refused(store: SqliteStore) -> None:
    await store.create("a", bytes(MAX_VALUE_BYTES))
    with pytest.raises(InvalidInput, match="too large"):
        await store.create("b", bytes(MAX_VALUE_BYTES + 1))


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "state.db")
    await store.aclose()
    await store.aclose()
    with pytest.raises(Unavailable):
        await store.get("a")


@given(st.lists(st.from_regex(r"[A-Za-z0-9_=-]{1,9}", fullmatch=True), min_size=1, max_size=5))
def test_parts_joined_by_slashes_are_a_key(parts: list[str]) -> None:
    check_key("/".join(parts))
