"""Deletes what has expired: jobs with their outputs, inputs, outputs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from upscaled_server.errors import DomainError
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.job import CallbackState, Job
from upscaled_server.state.duty import Alone, Duty
from upscaled_server.state.expiry import PREFIX, Expiry, drop_expiry, note_expiry, read_expiry

log = logging.getLogger(__name__)

_AT_ONCE = 100
# A job whose receiver is still to be told is kept until that is over, and looked at this often.
_CALLBACK_SECONDS = 3600.0


@dataclass(slots=True)
class JanitorCounts:
    """What the janitor has done since the start. `late_seconds` is by how much the last thing it deleted had
    been due."""

    deleted: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    rounds: int = 0
    late_seconds: float = 0.0


class Janitor:
    """`duty`: whether this server does it; with others that share the store, one of them."""

    def __init__(
        self,
        ending: Ending,
        *,
        every_seconds: float,
        clock: Callable[[], float] = time.time,
        duty: Duty | None = None,
    ) -> None:
        self._ending = ending
        self._book: Book = ending.book
        self._every_seconds = every_seconds
        self._clock = clock
        self._duty = duty or Alone()
        self.counts = JanitorCounts()

    async def work(self) -> None:
        """For ever, round after round, whenever the duty is this server's."""
        await self._duty.run(self._rounds)

    async def _rounds(self) -> None:
        while True:
            try:
                deleted = await self.round()
            except DomainError as error:
                log.warning("what has expired cannot be deleted now: %s", error.message)
                deleted = {}
            if deleted:
                log.info("expired and deleted: %s", " ".join(f"{k}={n}" for k, n in sorted(deleted.items())))
            await asyncio.sleep(self._every_seconds)

    async def round(self) -> Mapping[str, int]:
        """Delete everything that is due; how many of each kind. What cannot be deleted stays for the next
        round, and holds nothing else up."""
        self.counts.rounds += 1
        deleted: Counter[str] = Counter()
        last = ""
        while page := await self._book.store.range(PREFIX, after=last, limit=_AT_ONCE):
            for entry in page:
                last = entry.key
                expiry = read_expiry(entry.key)
                if expiry.milliseconds > self._clock() * 1000:
                    return deleted
                if await self._take(expiry):
                    deleted[expiry.kind] += 1
            if len(page) < _AT_ONCE:
                break
        return deleted

    async def _take(self, expiry: Expiry) -> bool:
        """Whether something was deleted."""
        try:
            gone = await self._delete(expiry)
            await drop_expiry(self._book.store, expiry)
        except DomainError as error:
            self.counts.failed += 1
            log.warning("%s %s has expired and cannot be deleted: %s", expiry.kind, expiry.id, error.message)
            return False
        if gone:
            self.counts.deleted[expiry.kind] += 1
            self.counts.late_seconds = self._clock() - expiry.milliseconds / 1000
        return gone

    async def _delete(self, expiry: Expiry) -> bool:
        if expiry.kind != "job":
            await self._ending.outputs.expire(expiry)
            return True
        stored = await self._book.find(expiry.caller, expiry.id)
        if stored is None or not self._is_due(stored.job):
            return False  # deleted before, or the entry of an end that did not come to be
        if _is_awaited(stored.job):
            await self._put_off(expiry)
            return False
        await self._ending.forget(stored.job)
        return True

    def _is_due(self, job: Job) -> bool:
        return job.state.final and job.expires is not None and job.expires <= self._clock() + 0.001

    async def _put_off(self, expiry: Expiry) -> None:
        later = round((self._clock() + _CALLBACK_SECONDS) * 1000)
        await note_expiry(self._book.store, replace(expiry, milliseconds=later))


def _is_awaited(job: Job) -> bool:
    return job.callback is not None and job.callback.state is CallbackState.PENDING
