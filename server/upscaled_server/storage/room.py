"""How much may be kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upscaled_server.errors import StorageFull

# Counting lists everything there is: seldom, but soon where the bound is near, which others may have moved.
_COUNT_SECONDS = 600.0
_COUNT_SECONDS_NEAR_BOUND = 60.0
_NEAR_BOUND = 0.9


class Room:
    """Counts the bytes that are kept, and refuses before a bound is passed.

    Where several servers share a place, each knows what it did itself and, as of the last time it counted,
    what all have done. So the bound can be passed by what the others write in between.

    `folder`: whose disk must stay free of at least `min_free_bytes`; None for an object store.
    """

    def __init__(
        self,
        max_bytes: int,
        min_free_bytes: int,
        folder: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._folder = folder
        self._clock = clock
        self._counted_at = clock()
        self._kept = 0
        self._being_written = 0

    @property
    def used_bytes(self) -> int:
        """What is there, and what is being written."""
        return self._kept + self._being_written

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    @property
    def is_out_of_date(self) -> bool:
        """Whether it is time to count again, where others may have changed something."""
        is_near = self.used_bytes >= _NEAR_BOUND * self._max_bytes
        seconds = _COUNT_SECONDS_NEAR_BOUND if is_near else _COUNT_SECONDS
        return self._clock() - self._counted_at >= seconds

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
        """Count bytes that are being written. `keep` or `give_up` follows. Raises `StorageFull`."""
        self.check(count)
        self._being_written += count

    def keep(self, count: int) -> None:
        """They are there now."""
        self._being_written -= count
        self._kept += count

    def give_up(self, count: int) -> None:
        """They did not come to be there."""
        self._being_written -= count

    def give_back(self, count: int) -> None:
        """Bytes that were there are gone."""
        self._kept = max(0, self._kept - count)

    @contextmanager
    def counting(self) -> Iterator[Callable[[int], None]]:
        """While everything is counted; the block says what it found. What is added or removed meanwhile may
        be found or not: it is taken for not found, and right again the next time."""
        before = self._kept
        self._counted_at = self._clock()

        def count(found: int) -> None:
            self._kept = max(0, found + self._kept - before)

        yield count
