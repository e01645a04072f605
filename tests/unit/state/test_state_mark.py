"""A database that has lost its newest commits is refused, whole as it looks."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.sqlite import SqliteStore


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A database as a server leaves it that is killed: the newest commits are in its log alone."""
    path = tmp_path / "running" / "state.db"
    path.parent.mkdir()
    store = await SqliteStore.open(path)
    for number in range(50):
        await store.create(f"jobs/{number:04d}", b"x" * 300)
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(50, 100):
        await store.create(f"jobs/{number:04d}", b"x" * 300)
    entry = await store.get("jobs/0099")
    assert entry is not None
    await store.delete(entry.key, entry.version)
    shutil.copytree(path.parent, tmp_path / "killed")
    await store.aclose()
    return tmp_path / "killed" / "state.db"


async def test_what_was_committed_is_there_after_a_kill(killed: Path) -> None:
    store = await SqliteStore.open(killed)
    try:
        assert len(await store.range("jobs")) == 99
    finally:
        await store.aclose()


def _without_log(log: Path) -> None:
    log.unlink()
    log.with_name("state.db-shm").unlink()


def _empty_log(log: Path) -> None:
    log.write_bytes(b"")


def _log_cut_in_the_middle(log: Path) -> None:
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])


def _log_without_its_last_commit(log: Path) -> None:
    """The last one deletes an entry, which would be there again."""
    content = log.read_bytes()
    frame = 24 + 4096
    # A frame that ends a commit says how many pages the database has then.
    ends = [
        at for at in range(32, len(content), frame) if int.from_bytes(content[at + 4 : at + 8], "big") != 0
    ]
    log.write_bytes(content[: ends[-2] + frame])


def _changed_byte_in_the_log(log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[len(content) // 3] ^= 0x40
    log.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        _without_log,
        _empty_log,
        _log_cut_in_the_middle,
        _log_without_its_last_commit,
        _changed_byte_in_the_log,
    ],
)
async def test_lost_commits_are_noticed(killed: Path, damage: Callable[[Path], None]) -> None:
    damage(killed.with_name("state.db-wal"))
    with pytest.raises(FailedPrecondition, match=r"is damaged \(it ends with change \d+, and change 101 was"):
        await SqliteStore.open(killed)


async def test_a_missing_database_is_not_made_anew_beside_its_mark(killed: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        killed.with_name(f"state.db{suffix}").unlink()
    with pytest.raises(FailedPrecondition, match=r"missing, but state\.db-mark is there"):
        await SqliteStore.open(killed)


@pytest.mark.parametrize("content", [None, b"", b"noise", b"00000000000000009999 00000000\n"])
async def test_without_a_readable_mark_the_database_is_opened_and_marked_again(
    killed: Path, content: bytes | None
) -> None:
    mark = killed.with_name("state.db-mark")
    if content is None:
        mark.unlink()
    else:
        mark.write_bytes(content)
    store = await SqliteStore.open(killed)
    assert await store.create("jobs/new", b"") == 102
    await store.aclose()
    assert mark.read_bytes().startswith(b"00000000000000000102 ")
    store = await SqliteStore.open(killed)
    await store.aclose()


async def test_a_mark_that_is_behind_is_what_power_loss_leaves(killed: Path) -> None:
    before = killed.with_name("state.db-mark").read_bytes()
    store = await SqliteStore.open(killed)
    await store.create("jobs/new", b"")
    await store.aclose()
    killed.with_name("state.db-mark").write_bytes(before)
    store = await SqliteStore.open(killed)
    try:
        assert await store.get("jobs/new") is not None
    finally:
        await store.aclose()


async def test_a_change_that_is_rolled_back_is_not_marked(killed: Path) -> None:
    store = await SqliteStore.open(killed)
    before = killed.with_name("state.db-mark").read_bytes()
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(Exception, match="readonly"):
        await store.create("jobs/new", b"")
    await store.aclose()
    assert killed.with_name("state.db-mark").read_bytes() == before
    with sqlite3.connect(killed) as connection:
        assert connection.execute("SELECT version FROM counter").fetchone() == (101,)
