"""How much may be kept."""

from __future__ import annotations

import os
from pathlib import Path

from upscaled_server.errors import StorageFull


class Room:
    """Counts the bytes that are kept, and refuses before a bound is passed.

    `folder`: whose disk must stay free of at least `min_free_bytes`; None for an object store.
    """

    def __init__(self, max_bytes: int, min_free_bytes: int, folder: Path | None) -> None:
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._folder = folder
        self.used_bytes = 0

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def check(self, count: int) -> None:
        """Raises `StorageFull` if `count` more bytes would be too many."""
        if self.used_bytes + count > self._max_bytes:
            raise StorageFull(
                "this server keeps as many files as it may (UPSCALED_MAX_STORED_BYTES); delete what is not "
                "needed, or try again when files have expired",
                limit=self._max_bytes,
                actual=self.used_bytes + count,
                unit="bytes",
            )
        if self._folder is None or not self._min_free_bytes:
            return
        found = os.statvfs(self._folder)
        free = found.f_bavail * found.f_frsize
        if free - count < self._min_free_bytes:
            raise StorageFull(
                "the disk that files are kept on is nearly full (UPSCALED_MIN_FREE_BYTES)",
                limit=self._min_free_bytes,
                actual=free - count,
                unit="bytes",
            )

    def take(self, count: int) -> None:
        """Raises `StorageFull`."""
        self.check(count)
        self.used_bytes += count

    def give_back(self, count: int) -> None:
        self.used_bytes = max(0, self.used_bytes - count)
