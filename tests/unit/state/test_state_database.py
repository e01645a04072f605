"""A database outlives its process, and one that is damaged is refused and never mistaken for an empty one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from upscaled_server.errors import FailedPrecondition, Overloaded, ProcessingFailed
from upscaled_server.state.database import SCHEMA_VERSION
from upscaled_server.state.sqlite import SqliteStore


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with a thousand entries, closed."""
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    for number in range(1000):
        await store.create(f"callers/{number:04d}", b"x" * 200)
    await store.aclose()
    return path


async def test_entries_are_there_when_it_is_opened_again(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        assert len(await store.range("callers")) == 1000
        entry = await store.get("callers/0007")
        assert entry is not None
        assert await store.create("callers/new", b"") > entry.version
    finally:
        await store.aclose()


async def test_it_survives_power_loss_by_settings(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        settings = [
            store._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    finally:
        await store.aclose()
    assert settings == ["wal", 2]


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def _noise_in_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096)


@pytest.mark.parametrize("damage", [_cut, _empty, _no_header, _noise_in_the_middle])
async def test_a_damaged_file_is_refused_and_left_as_it_is(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_DATA_DIR: the database .* is damaged .*backup"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before


async def test_one_changed_byte_of_a_value_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    at = content.rindex(b"x" * 200)
    path.write_bytes(content[:at] + b"y" + content[at + 1 :])
    store = await SqliteStore.open(path)
    try:
        with pytest.raises(ProcessingFailed, match="damaged"):
            await store.range("callers")
    finally:
        await store.aclose()


async def test_a_missing_file_with_its_log_beside_it_is_not_taken_for_a_new_one(path: Path) -> None:
    path.unlink()
    path.with_name("state.db-wal").write_bytes(b"x")
    with pytest.raises(FailedPrecondition, match=r"it is missing, but state\.db-wal is there"):
        await SqliteStore.open(path)


async def test_a_start_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    tmp_path.joinpath("state.db.new").write_bytes(b"half of something")
    store = await SqliteStore.open(tmp_path / "state.db")
    await store.aclose()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state.db"]


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(FailedPrecondition, match="another program"):
        await SqliteStore.open(path)


async def test_a_newer_schema_is_refused_with_both_numbers(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(FailedPrecondition, match=f"schema {SCHEMA_VERSION + 1}; .* 1 to {SCHEMA_VERSION}"):
        await SqliteStore.open(path)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_DATA_DIR: cannot open"):
        await SqliteStore.open(tmp_path / "missing" / "state.db")


async def test_on_a_full_disk_changes_are_refused_reading_goes_on_and_room_brings_it_back(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Overloaded, match="is full"):
            await store.create("callers/large", bytes(400_000))
        assert await store.get("callers/large") is None
        assert len(await store.range("callers")) == 1000
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await store.create("callers/large", bytes(400_000))
    finally:
        await store.aclose()


async def test_only_the_owner_may_read_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
