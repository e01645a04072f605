"""The store of one machine: SQLite in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from upscaled_server.errors import Overloaded, ProcessingFailed, Unavailable
from upscaled_server.state.database import error_code, open_database
from upscaled_server.state.mark import Mark
from upscaled_server.state.store import (
    MAX_RANGE,
    Entry,
    KeyExists,
    VersionChanged,
    check_key,
    check_limit,
    check_value,
)
from upscaled_server.state.watching import Watch, Watches

_T = TypeVar("_T")

_FULL_RETRY_SECONDS = 5.0


class SqliteStore:
    """A `Store` in one file. `open` it; one per file and process.

    Besides what the interface names, calls raise `Overloaded` on a full disk, `ProcessingFailed` for damage
    found later, and `Unavailable` once closed.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._mark = Mark(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upscaled-state")
        self._watches = Watches()
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Raises `FailedPrecondition` for a file that cannot be used."""
        return cls(await asyncio.to_thread(open_database, path), path)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._mark.close()

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        return await self._in_thread(lambda: self._get(key))

    async def has(self, key: str) -> bool:
        return await self.get(key) is not None

    async def create(self, key: str, value: bytes) -> int:
        check_key(key)
        check_value(value)
        return await self._changed(key, lambda: self._create(key, value))

    async def update(self, key: str, value: bytes, version: int) -> int:
        check_key(key)
        check_value(value)
        return await self._changed(key, lambda: self._update(key, value, version))

    async def delete(self, key: str, version: int) -> None:
        check_key(key)
        await self._changed(key, lambda: self._delete(key, version))

    async def range(
        self, prefix: str, *, after: str = "", limit: int = MAX_RANGE, reverse: bool = False
    ) -> list[Entry]:
        check_key(prefix)
        check_limit(limit)
        return await self._in_thread(lambda: self._range(prefix, after, limit, reverse))

    def watch(self, prefix: str) -> Watch:
        check_key(prefix)
        return self._watches.open(prefix)

    def _get(self, key: str) -> Entry | None:
        row = self._connection.execute(
            "SELECT key, value, version, checksum FROM entries WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else self._entry(*row)

    def _create(self, key: str, value: bytes) -> int:
        with self._transaction() as version:
            try:
                self._connection.execute(
                    "INSERT INTO entries (key, value, version, checksum) VALUES (?, ?, ?, ?)",
                    (key, value, version, _checksum(key, value, version)),
                )
            except sqlite3.IntegrityError:
                raise KeyExists(f"{key} is there already", key=key) from None
        return version

    def _update(self, key: str, value: bytes, version: int) -> int:
        with self._transaction() as following:
            changed = self._connection.execute(
                "UPDATE entries SET value = ?, version = ?, checksum = ? WHERE key = ? AND version = ?",
                (value, following, _checksum(key, value, following), key, version),
            ).rowcount
            self._require_one(changed, key, version)
        return following

    def _delete(self, key: str, version: int) -> None:
        with self._transaction():
            changed = self._connection.execute(
                "DELETE FROM entries WHERE key = ? AND version = ?", (key, version)
            ).rowcount
            self._require_one(changed, key, version)

    def _range(self, prefix: str, after: str, limit: int, reverse: bool) -> list[Entry]:
        low, high = f"{prefix}/", f"{prefix}0"  # "0" follows "/" in the order of bytes
        if reverse:
            rows = self._connection.execute(
                "SELECT key, value, version, checksum FROM entries WHERE key > ? AND key < ? "
                "ORDER BY key DESC LIMIT ?",
                (low, min(after, high) if after else high, limit),
            )
        else:
            rows = self._connection.execute(
                "SELECT key, value, version, checksum FROM entries WHERE key > ? AND key < ? "
                "ORDER BY key LIMIT ?",
                (max(after, low), high, limit),
            )
        return [self._entry(*row) for row in rows]

    def _next_version(self) -> int:
        row = self._connection.execute(
            "UPDATE counter SET version = version + 1 RETURNING version"
        ).fetchone()
        return int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """A change, and its version."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._next_version()
            yield version
            self._connection.execute("COMMIT")
        except BaseException:  # an interrupt too
            # A full disk may have rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._mark.write(version)

    def _require_one(self, changed: int, key: str, version: int) -> None:
        if changed != 1:
            raise VersionChanged(f"{key} has been changed since it was read", key=key, version=version)

    def _entry(self, key: str, value: bytes, version: int, checksum: int) -> Entry:
        return checked_entry(self._path, key, value, version, checksum)

    async def _changed(self, key: str, work: Callable[[], _T]) -> _T:
        """Do the work and tell of the change, also where who asked for it waits no longer."""
        loop = asyncio.get_running_loop()

        def change() -> _T:
            done = work()
            loop.call_soon_threadsafe(self._watches.tell, key)
            return done

        return await self._in_thread(change)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise Unavailable("the store is closed: the server is stopping")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.DatabaseError as error:
            if error_code(error) == sqlite3.SQLITE_FULL:
                raise Overloaded(
                    f"the disk of UPSCALED_DATA_DIR ({self._path.parent}) is full",
                    retry_after_seconds=_FULL_RETRY_SECONDS,
                ) from None
            raise ProcessingFailed(f"the database {self._path} cannot be used: {error}") from error


def checked_entry(path: Path, key: str, value: bytes, version: int, checksum: int) -> Entry:
    """A row of `entries`. Raises `ProcessingFailed` for one that is not what was written."""
    if checksum != _checksum(key, value, version):
        raise ProcessingFailed(
            f"the database {path} is damaged: the entry {key} is not what was written; put a backup in its "
            "place",
            key=key,
        )
    return Entry(key, value, version)


def _checksum(key: str, value: bytes, version: int) -> int:
    """Over all of an entry: SQLite itself notices a damaged page, but not a changed byte of a value."""
    return zlib.crc32(value, zlib.crc32(f"{key}\0{version}\0".encode()))
