"""From a request to an acknowledged job, in steps that can be taken up again.

live/           so that what follows is found after a crash
requests/       the request's id is claimed, if it has one
job-inputs/     the image, if it came with the request
jobs/           from here on the job is acknowledged, and kept
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.errors import DeadlinePassed, DomainError, Overloaded, QuotaExceeded, Unavailable
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.jobs import ids
from upscaled_server.jobs.board import Board
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import Callback, InputSummary, Job
from upscaled_server.jobs.payload import NewJob, payload_of
from upscaled_server.jobs.places import Files, input_path
from upscaled_server.jobs.ports import Callbacks, Helpers
from upscaled_server.jobs.queue import Queue
from upscaled_server.jobs.room import Room
from upscaled_server.jobs.work import effective_options, summary_of, to_source
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.events import Done, Plan
from upscaled_server.pipeline.request import Request
from upscaled_server.pipeline.storing import Images
from upscaled_server.state import requests
from upscaled_server.telemetry import tracing

log = logging.getLogger(__name__)

# An image that came along is looked at before the job is acknowledged, where that goes at once.
_LOOK_SECONDS = 2.0
_KIND = "job"
# Far less than another server waits before it takes this one for dead, see `elsewhere_seconds`.
_MAKING_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Creation:
    book: Book
    board: Board
    queue: Queue
    files: Files
    room: Room
    images: Images
    callbacks: Callbacks
    helpers: Helpers
    keeping: KeepingSettings
    elsewhere_seconds: float = 0.0
    """How long another server may be at making a job. 0: there is none."""
    _one_at_a_time: dict[tuple[str, str], _Turn] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Job]] = field(default_factory=set)

    async def create(self, new: NewJob) -> Job:
        """The job, which is kept from now on; the one that there is where the request was made before.

        It is made to its end, also when the caller leaves. Raises `AlreadyExists` for another payload under
        the same request id, `QuotaExceeded` and `Overloaded` where there are too many jobs, and what is wrong
        with the options or the image.
        """
        task = asyncio.create_task(self._create(new), name="create a job")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Job]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # raised where it is awaited, if the caller is still there

    async def _create(self, new: NewJob) -> Job:
        image = None
        if new.image is not None:
            image = await asyncio.to_thread(summary_of, new.image.data)
        payload = payload_of(new, image)
        async with self._turn(new):
            if (job := await self._made_before(new, payload)) is not None:
                return job
            with self.room.taken(new.caller):
                await self.room.check_stored(new.caller, 0 if image is None else image.size_bytes)
                return await self._record(new, await self._draft(new, image, payload))

    async def plan(self, new: NewJob, job_id: str, seconds: float) -> Plan | None:
        """How the image will be made; it is fetched for that where it did not come along."""
        deadline = Deadline.after(seconds)
        request = Request(
            new.image or to_source(new.source),
            effective_options(new.options, job_id, priority_of(new)),
            request_id=new.request_id,
            validate_only=True,
            caller=new.caller,
        )
        plan = None
        async with deadline.enforced(), aclosing(self.images.run(request, deadline)) as stream:
            async for event in stream:
                if isinstance(event, Plan):
                    plan = event
                elif isinstance(event, Done):
                    _check_credits(event, new.caller)
        return plan

    async def _look(self, new: NewJob, job_id: str) -> Plan | None:
        """The plan, where the image came along and there is time to look at it."""
        self.helpers.check_options(replace(new.options, priority=priority_of(new)), new.caller)
        if new.callback_url:
            self.callbacks.check(new.callback_url)
        if new.image is None:
            await self.helpers.check_source(new.source, new.caller)
            return None
        try:
            return await self.plan(new, job_id, _LOOK_SECONDS)
        except (DeadlinePassed, Overloaded, Unavailable):
            return None  # what is wrong with it shows when the job runs

    async def _made_before(self, new: NewJob, payload: str) -> Job | None:
        if not new.request_id:
            return None
        job_id = await requests.find(
            self.book.store, new.caller.name, new.request_id, kind=_KIND, payload_sha256=payload
        )
        if job_id is None:
            return None
        stored = await self.book.find(new.caller.name, job_id)
        return None if stored is None else stored.job

    async def _draft(self, new: NewJob, image: InputSummary | None, payload: str) -> Job:
        job_id = ids.new_id()
        return Job(
            id=job_id,
            caller=new.caller.name,
            source=new.source,
            options=new.options,
            priority=priority_of(new),
            created=ids.time_of(job_id),
            retention=self.keeping.retention("retention", new.retention),
            request_id=new.request_id,
            payload=payload,
            input=image,
            plan=await self._look(new, job_id),
            callback=Callback(new.callback_url) if new.callback_url else None,
            traceparent=tracing.current().traceparent,
        ).recorded()

    async def _record(self, new: NewJob, job: Job) -> Job:
        try:
            async with asyncio.timeout(_MAKING_SECONDS):
                return await self._make(new, job)
        except TimeoutError:
            raise Unavailable(
                f"the job could not be recorded within {_MAKING_SECONDS:g} s; ask again with the same "
                "request id"
            ) from None

    async def _make(self, new: NewJob, job: Job) -> Job:
        await self.book.mark_live(job)
        if job.request_id:
            drafted, job = job, await self._claimed(job)
            if job.id != drafted.id:
                await self.book.unmark_live(drafted.caller, drafted.id)
                if (made := await self._made_elsewhere(job)) is not None:
                    return made
                await self.book.mark_live(job)
        try:
            if new.image is not None:
                await self.files.blobs.put(input_path(job.id), new.image.data)
            async with self.queue.offered(job, new.caller.weight):
                job = await self.book.create(job)
                if not job.state.final:
                    self.board.add(job)
        except (DomainError, asyncio.CancelledError) as error:
            # What fails may have happened all the same.
            made = await self._undo(job)
            if made is None or not isinstance(error, DomainError):
                raise
            job = made
        return job

    async def _claimed(self, job: Job) -> Job:
        """The job under the id that belongs to the request."""
        job_id = await requests.claim(
            self.book.store, job.caller, job.request_id, kind=_KIND, payload_sha256=job.payload, new_id=job.id
        )
        return replace(job, id=job_id)

    async def _made_elsewhere(self, job: Job) -> Job | None:
        """The job that another server is making for the same request. None where it has not come to be in
        time: that server was killed after it had claimed the id."""
        give_up = ids.time_of(job.id) + self.elsewhere_seconds
        while (stored := await self.book.find(job.caller, job.id)) is None:
            if time.time() > give_up:
                return None
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return stored.job

    async def _undo(self, job: Job) -> Job | None:
        """Take back what was done for a job, unless it is there."""
        try:
            await undo(self.book, self.files, job.caller, job.id)
            stored = await self.book.find(job.caller, job.id)
        except DomainError as error:
            log.warning("what is left of a job that was refused goes at the next start: %s", error.message)
            return None
        return None if stored is None else stored.job

    @asynccontextmanager
    async def _turn(self, new: NewJob) -> AsyncIterator[None]:
        """Requests with the same id one after the other."""
        if not new.request_id:
            yield
            return
        key = (new.caller.name, new.request_id)
        turn = self._one_at_a_time.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._one_at_a_time[key]


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


def priority_of(new: NewJob) -> Priority:
    """Raises `PermissionDenied`."""
    return new.caller.priority_for(new.options.priority, default=Priority.BATCH)


def _check_credits(looked: Done, caller: Caller) -> None:
    """Raises `QuotaExceeded` where the work will cost more than is left."""
    cost, left = looked.plan.estimated_credits, looked.credits_remaining
    if left is not None and cost > left:
        raise QuotaExceeded(
            f"caller:{caller.name}",
            f"the work costs {cost} credits, and caller {caller.name} has {left} left this month",
            cost=str(cost),
            remaining=str(left),
        )


async def undo(book: Book, files: Files, caller: str, job_id: str) -> None:
    """Take back the steps before the record, unless that is there: then the job is made."""
    if await book.find(caller, job_id) is not None:
        return
    live = await book.find_live(caller, job_id)
    request_id = "" if live is None else live.request_id
    await files.delete_input(job_id)
    if request_id:
        await requests.forget(book.store, caller, request_id, job_id)
    await book.unmark_live(caller, job_id)
