"""From the last row to a final state, and later to nothing, in steps that can be taken up again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from upscaled_server.errors import DomainError, NotFound
from upscaled_server.jobs.board import Board
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import CallbackState, Job, State
from upscaled_server.jobs.places import Files
from upscaled_server.jobs.ports import Callbacks, Outputs
from upscaled_server.state import requests
from upscaled_server.state.expiry import Expiry, drop_expiry, note_expiry
from upscaled_server.telemetry import metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    book: Book
    board: Board
    files: Files
    outputs: Outputs
    callbacks: Callbacks
    clock: Callable[[], float] = time.time

    async def end(self, caller: str, job_id: str, finish: Callable[[Job, float], Job]) -> Job:
        """Write down the final state that `finish` gives, and do what follows from it. A job that has one
        already keeps it; one for which `finish` gives none stays as it is.

        When it is to be forgotten is written first: of an entry without an end nothing follows, of an end
        without an entry that nobody ever deletes the job. Raises `NotFound` for a job that was deleted.
        """
        now = self.clock()
        expiry = expiry_of(finish(await self.book.get(caller, job_id), now))
        if expiry is not None:
            await note_expiry(self.book.store, expiry)
        ends_here = False

        def end_once(each: Job) -> Job:
            nonlocal ends_here
            after = each if each.state.final else finish(each, now)
            ends_here = after.state.final and not each.state.final
            return after if ends_here else each

        try:
            job = await self.book.change(caller, job_id, end_once)
        except NotFound:  # somebody else ended it, and it was deleted at once
            if expiry is not None:
                await drop_expiry(self.book.store, expiry)
            raise
        if expiry is not None and expiry != expiry_of(job):
            await drop_expiry(self.book.store, expiry)  # somebody else ended it
        if not job.state.final:
            return job
        if ends_here:
            metrics.JOBS_ENDED.labels(job.state.value).inc()
        if (place := self.board.get(job_id)) is not None:
            place.show(job)
        self.board.remove(job)
        try:
            await self.settle(job)
        except DomainError as error:
            # It stays among the living, so the next start takes this up again.
            log.warning("what follows the end of job %s is put off: %s", job_id, error.message)
        return job

    async def settle(self, job: Job) -> None:
        """What follows from a final state; doing it twice is like doing it once."""
        if job.callback is not None and job.callback.state is CallbackState.PENDING:
            await self.callbacks.enqueue(job)
        if job.state is not State.SUCCEEDED:
            await self.outputs.delete_output(job.id)
            await self.files.delete_tiles(job.id)
        await self.files.delete_input(job.id)
        await self.book.unmark_live(job.caller, job.id)

    async def forget(self, job: Job) -> None:
        """Delete a job that has ended, its record last: cut short, it can be deleted again."""
        await self.outputs.delete_output(job.id)
        await self.files.delete_tiles(job.id)
        await self.files.delete_input(job.id)
        await self.book.unmark_live(job.caller, job.id)
        if job.request_id:
            await requests.forget(self.book.store, job.caller, job.request_id, job.id)
        await self.book.delete(job.caller, job.id)
        if (expiry := expiry_of(job)) is not None:
            await drop_expiry(self.book.store, expiry)


def expiry_of(job: Job) -> Expiry | None:
    """When it is to be forgotten; None before it has ended."""
    if job.expires is None:
        return None
    return Expiry(round(job.expires * 1000), "job", job.caller, job.id)
