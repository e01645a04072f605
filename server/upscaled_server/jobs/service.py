"""Durable jobs, as `api` sees them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from upscaled_server.access.caller import Caller
from upscaled_server.errors import FailedPrecondition, InvalidField, Unavailable
from upscaled_server.jobs import ids
from upscaled_server.jobs.board import Board
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.creation import Creation
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.following import Following, JobEvent, Snapshot
from upscaled_server.jobs.janitor import Janitor
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.listing import Filters, Listing, Page
from upscaled_server.jobs.payload import NewJob
from upscaled_server.jobs.queue import Queue
from upscaled_server.jobs.recovery import Recovery
from upscaled_server.jobs.runner import Runner
from upscaled_server.jobs.verdicts import interrupted
from upscaled_server.pipeline.events import Plan, Tile
from upscaled_server.state.background import BackgroundWork, in_background

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0


class Jobs:
    """Every rpc of the contract, for a caller that is known. Another caller's job does not exist.

    `start` before the first call, `stop` as soon as no more are wanted: it ends the calls that wait.
    """

    def __init__(
        self,
        *,
        book: Book,
        board: Board,
        queue: Queue,
        creation: Creation,
        ending: Ending,
        runner: Runner,
        following: Following,
        listing: Listing,
        recovery: Recovery | None,
        background: Sequence[BackgroundWork],
        janitor: Janitor,
    ) -> None:
        """`recovery`: None where others go on with what a server leaves. `background` goes on for ever."""
        self._book = book
        self._board = board
        self._queue = queue
        self._creation = creation
        self._ending = ending
        self._runner = runner
        self._following = following
        self._listing = listing
        self._recovery = recovery
        self.janitor = janitor
        self._background = (*background, janitor.work)
        self._beside = AsyncExitStack()

    @property
    def running(self) -> int:
        return self._runner.running

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def start(self) -> None:
        """Take up what the last process left, then run."""
        if self._recovery is not None:
            found = await self._recovery.recover()
            log.info(
                "jobs: %d queued, %d run again, %d ended before, %d never acknowledged, %d damaged",
                found.queued,
                found.run_again,
                found.ended,
                found.taken_back,
                found.damaged,
            )
        self._runner.start()
        await self._beside.enter_async_context(in_background(*self._background))

    async def stop(self) -> None:
        """Running jobs go back to the queue; who waits for one is told that the server stops. Twice is like
        once."""
        self._board.close()
        await self._beside.aclose()
        try:
            await asyncio.wait_for(self._runner.stop(), _STOP_SECONDS)
        except TimeoutError:
            log.warning("jobs did not stop within %g s; the next start runs them again", _STOP_SECONDS)

    async def create(self, new: NewJob) -> Job:
        """See `Creation.create`."""
        self._check_open()
        return await self._creation.create(new)

    async def plan(self, new: NewJob, seconds: float) -> Plan | None:
        """What a job would be like, by looking at its image; nothing is recorded."""
        return await self._creation.plan(new, ids.new_id(), seconds)

    async def get(self, caller: Caller, job_id: str) -> Snapshot:
        return await self._following.now(caller.name, _checked(job_id))

    def shown(self, job: Job) -> Snapshot:
        """A job of a page, with what is known of it beside."""
        return self._following.shown(job)

    async def list(self, caller: Caller, filters: Filters, *, size: int, token: str) -> Page:
        return await self._listing.page(caller.name, filters, size=size, token=token)

    async def ended(self, caller: Caller, job_id: str, seconds: float) -> Snapshot:
        """The job when it has ended, or as it is after `seconds`."""
        try:
            async with asyncio.timeout(seconds) as waiting:
                await self._following.end(caller.name, job_id)
        except TimeoutError:
            if not waiting.expired():
                raise
        return await self.get(caller, job_id)

    def watch(self, caller: Caller, job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        if after < 0:
            raise InvalidField("after_event_number", "is out of range", limit="0 or more", actual=after)
        return self._following.events(caller.name, _checked(job_id), after)

    def tiles(self, caller: Caller, job_id: str, after: int | None) -> AsyncGenerator[Tile, None]:
        if after is not None and after < 0:
            raise InvalidField("after_sequence", "is out of range", limit="0 or more", actual=after)
        return self._following.tiles(caller.name, _checked(job_id), after)

    async def cancel(self, caller: Caller, job_id: str) -> Snapshot:
        """The job as it is then: a running one may take until its next step to end."""
        job = await self._book.change(
            caller.name,
            _checked(job_id),
            lambda each: each if each.state.final or each.cancelling else replace(each, cancelling=True),
        )
        if (place := self._board.get(job_id)) is not None and not job.state.final:
            place.show(job)
        if job.state is State.QUEUED:  # and now nobody begins with it
            self._queue.withdraw(job_id)
            await self._ending.end(caller.name, job_id, interrupted)
        return await self.get(caller, job_id)

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Raises `FailedPrecondition` for a job that has not ended."""
        job = await self._book.get(caller.name, _checked(job_id))
        if not job.state.final:
            raise FailedPrecondition(
                f"job {job_id} has not ended; cancel it first", job=job_id, state=job.state.value
            )
        await self._ending.forget(job)

    async def delete_all_of(self, caller: str) -> int:
        """Every job of a caller, those that run included; how many there were."""
        who, count = Caller(caller), 0
        while page := (await self._listing.page(caller, Filters(), size=100, token="")).jobs:
            for job in page:
                if not job.state.final:
                    await self.cancel(who, job.id)
                    await self.ended(who, job.id, _STOP_SECONDS)
                await self.delete(who, job.id)
                count += 1
        return count

    def _check_open(self) -> None:
        if self._board.closed:
            raise Unavailable("the server is stopping")


def _checked(job_id: str) -> str:
    """Raises `InvalidField` for what no job can be called."""
    if not ids.is_id(job_id):
        raise InvalidField(
            "job_id",
            "is not an id of a job",
            limit=f"{ids.LENGTH} characters of a ULID",
            actual=ascii(job_id[:80]),
        )
    return job_id
