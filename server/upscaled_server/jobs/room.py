"""Whether there is room for one more job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.errors import FailedPrecondition, Overloaded, QuotaExceeded
from upscaled_server.jobs.board import Board
from upscaled_server.jobs.ports import Outputs
from upscaled_server.jobs.settings import JobSettings

_FULL_RETRY_SECONDS = 5.0


class Room:
    """Counts the jobs on the board, and those that are just being made."""

    def __init__(self, board: Board, outputs: Outputs, settings: JobSettings) -> None:
        self._board = board
        self._outputs = outputs
        self._settings = settings
        self._making: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: Caller) -> Iterator[None]:
        """Raises `QuotaExceeded`, `Overloaded` where one more job would be too many, and
        `FailedPrecondition` where none are taken at all."""
        if not self._settings.max_queued_jobs:
            raise FailedPrecondition(
                "this server takes no jobs, as UPSCALED_MAX_QUEUED_JOBS is 0; send the image in a call",
                limit=0,
            )
        limit = self._limit_of(caller)
        mine = self._board.count_of(caller.name) + self._making[caller.name] + 1
        if mine > limit:
            raise QuotaExceeded(
                f"caller:{caller.name}",
                f"there are {mine - 1} jobs of caller {caller.name} that have not ended, which is the limit",
                limit=limit,
                actual=mine,
            )
        total = len(self._board) + self._making.total() + 1
        if total > self._settings.max_queued_jobs:
            raise Overloaded(
                "there are too many jobs that have not ended",
                retry_after_seconds=_FULL_RETRY_SECONDS,
                limit=self._settings.max_queued_jobs,
                actual=total,
            )
        self._making[caller.name] += 1
        try:
            yield
        finally:
            self._making[caller.name] -= 1
            if not self._making[caller.name]:
                del self._making[caller.name]

    def _limit_of(self, caller: Caller) -> int:
        """Callers without a key share no limit but the server's own."""
        if caller is ANONYMOUS:
            return self._settings.max_queued_jobs
        return caller.max_queued_jobs or self._settings.max_queued_jobs_per_caller

    async def check_stored(self, caller: Caller, size_bytes: int) -> None:
        """Raises `QuotaExceeded` where the image, beside the caller's files and the images of its jobs, is
        more than it may store."""
        if not (size_bytes and caller.max_stored_bytes):
            return
        images = await self._board.image_bytes_of(caller.name)
        total = images + await self._outputs.stored_bytes(caller.name) + size_bytes
        if total > caller.max_stored_bytes:
            raise QuotaExceeded(
                f"caller:{caller.name}",
                f"the image would bring what caller {caller.name} stores to {total} bytes; the limit is "
                f"{caller.max_stored_bytes}: delete files, or wait for jobs to end",
                limit=caller.max_stored_bytes,
                actual=total,
            )
