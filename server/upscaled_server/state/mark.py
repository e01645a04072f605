"""How far a database had come, beside it, so that one which has lost its newest commits is not taken for
whole.

SQLite opens a database whose log is gone, cut or damaged without a word, as it was some commits before. The
mark is written after a commit is on the disk, so it is never ahead of a database that is whole; after power
loss it may be behind. Where it cannot be written, nothing is lost but this check.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

# A number of constant width, so that each takes the place of the one before, and its checksum.
_LINE = re.compile(rb"(\d{20}) ([0-9a-f]{8})\n")
_LINE_BYTES = 30


def mark_path(database: Path) -> Path:
    return database.with_name(f"{database.name}-mark")


class Mark:
    """The mark of a database. `version` is the one of the last commit it tells of, 0 where there is none."""

    def __init__(self, database: Path) -> None:
        self._path = mark_path(database)
        self._descriptor = -1
        self._failed = False
        self.version = self._read()

    def write(self, version: int) -> None:
        """Tell of a commit that is on the disk. Blocks, and does not wait for the disk."""
        self.version = version
        number = b"%020d" % version
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            os.pwrite(self._descriptor, b"%s %08x\n" % (number, zlib.crc32(number)), 0)
        except OSError as error:
            if not self._failed:
                log.warning("%s cannot be written: %s", self._path, error.strerror)
            self._failed = True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> int:
        try:
            found = _LINE.fullmatch(self._path.read_bytes()[: _LINE_BYTES + 1])
        except FileNotFoundError:
            return 0
        if found is None or zlib.crc32(found[1]) != int(found[2], 16):
            log.warning("%s is damaged: whether the database lacks changes cannot be told", self._path)
            return 0
        return int(found[1])
