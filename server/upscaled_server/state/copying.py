"""A copy of the database as it was at one moment, taken while a server goes on writing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.database import APPLICATION_ID, SCHEMA_VERSION
from upscaled_server.state.sqlite import checked_entry
from upscaled_server.state.store import Entry

_LOCK_WAIT_SECONDS = 10.0


def copy_database(source: Path, target: Path, at_moment: Callable[[], None] = lambda: None) -> None:
    """Write all that is committed in `source` at one moment to `target`, which is replaced. Blocks.

    `at_moment` is called when the moment is fixed, before anything is copied. Writers go on meanwhile.
    `target` is one plain file without a log beside it. Raises `FailedPrecondition` if `source` cannot be
    read, or is not a database of this version.
    """
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(_open(source)) as reading, closing(sqlite3.connect(target)) as writing:
            _check(reading, source)
            # What this transaction reads is of one moment, from its first read on.
            reading.execute("BEGIN")
            reading.execute("SELECT version FROM counter").fetchone()
            at_moment()
            reading.backup(writing, pages=-1)
            reading.rollback()
            writing.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        raise FailedPrecondition(
            f"UPSCALED_DATA_DIR: {source} cannot be copied: {error}", path=str(source)
        ) from None


def read_copy(path: Path) -> Iterator[Entry]:
    """Every entry of a copy, in the order of keys. Raises `FailedPrecondition` for a database of another
    version and `ProcessingFailed` for a damaged entry."""
    try:
        with closing(_open(path)) as reading:
            _check(reading, path)
            for row in reading.execute("SELECT key, value, version, checksum FROM entries ORDER BY key"):
                yield checked_entry(path, *row)
    except sqlite3.DatabaseError as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}", path=str(path)) from None


def _open(path: Path) -> sqlite3.Connection:
    # Not mode=ro, which cannot read a database whose log is not there yet.
    connection = sqlite3.connect(
        f"file:{quote(os.fspath(path.absolute()))}?mode=rw", uri=True, timeout=_LOCK_WAIT_SECONDS
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise FailedPrecondition(f"{path} is a database of another program", path=str(path))
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    if schema != SCHEMA_VERSION:
        raise FailedPrecondition(
            f"{path} has schema {schema}, and this version has {SCHEMA_VERSION}; use the version "
            "that wrote it",
            schema=schema,
            known=SCHEMA_VERSION,
        )
