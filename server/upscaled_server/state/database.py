"""Opening the SQLite file: made whole or not at all, checked, and brought to this version's schema."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from upscaled_server.errors import FailedPrecondition
from upscaled_server.state.mark import Mark, mark_path

# "upsc", in the header of the file: `file state.db` shows it, and another program's database is not taken.
APPLICATION_ID = 0x75707363

# Each brings the schema from its index to the next version. Never edited once released; only added to. One
# is added, be it an empty one, whenever a version begins to write entries that the versions before cannot
# read: it is how they know.
_MIGRATIONS = (
    """
    CREATE TABLE entries (
        key TEXT PRIMARY KEY COLLATE BINARY,
        version INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counter (version INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0);
    """,
)
SCHEMA_VERSION = len(_MIGRATIONS)

_LOCK_WAIT_SECONDS = 10.0


def open_database(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode whose commits survive power loss; used from one thread at a time.

    A missing file is made. Raises `FailedPrecondition` for one that is damaged, lacks commits that its mark
    tells of, is of another program or of a newer version; nothing is changed then.
    """
    try:
        if not path.exists():
            _make(path)
        # SQLite would take an empty file for a new database, and so forget everything without a word.
        if path.stat().st_size == 0:
            raise _damaged(path, "the file is empty")
        connection = _connect(path)
        try:
            _check(connection, path)
            _migrate(connection)
            _check_mark(connection, path)
        except BaseException:  # an interrupt too
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if error_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from None
        raise _unusable(path, str(error)) from None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    return connection


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of the Python module itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _make(path: Path) -> None:
    """A new database, under its name only when it is complete."""
    beside = (_beside(path, "-wal"), _beside(path, "-shm"), mark_path(path))
    left_over = [each for each in beside if each.exists()]
    if left_over:
        raise _damaged(path, f"it is missing, but {left_over[0].name} is there")
    temporary = _beside(path, ".new")
    temporary.unlink(missing_ok=True)
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        temporary.chmod(0o600)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _migrate(connection)
    finally:
        connection.close()
    _sync(temporary)
    temporary.rename(path)
    _sync(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are written out where they are needed; the thread is the store's own business.
    connection = sqlite3.connect(
        path, timeout=_LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise FailedPrecondition(
            f"UPSCALED_DATA_DIR: {path} is a database of another program; name another folder",
            path=str(path),
        )
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 < found <= SCHEMA_VERSION:
        raise FailedPrecondition(
            f"UPSCALED_DATA_DIR: {path} was written by a newer version (schema {found}; this version knows "
            f"1 to {SCHEMA_VERSION}); start that version, or name another folder",
            schema=found,
            known=SCHEMA_VERSION,
        )
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _damaged(path, str(problem).splitlines()[-1])


def _check_mark(connection: sqlite3.Connection, path: Path) -> None:
    """A log that is missing or cut leaves a database that is whole, and older than it was."""
    version = connection.execute("SELECT version FROM counter").fetchone()[0]
    with Mark(path) as mark:
        if mark.version > version:
            raise _damaged(path, f"it ends with change {version}, and change {mark.version} was made")


def _migrate(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    for number in range(found, SCHEMA_VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )


def _unusable(path: Path, problem: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"UPSCALED_DATA_DIR: cannot open {path}: {problem}; the server's user must be able to read and write "
        "it",
        path=str(path),
    )


def _damaged(path: Path, problem: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"UPSCALED_DATA_DIR: the database {path} is damaged ({problem}); move {path.name}, {path.name}-wal, "
        f"{path.name}-shm and {mark_path(path).name} away, and put a backup in their place or start without "
        "what they held",
        path=str(path),
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
