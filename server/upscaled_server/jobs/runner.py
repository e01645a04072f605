"""Runs jobs, a bounded number at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from upscaled_server.errors import (
    DomainError,
    Overloaded,
    PermissionDenied,
    StorageFull,
    Unavailable,
    WorkerLost,
)
from upscaled_server.jobs.board import Place
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.ports import Helpers
from upscaled_server.jobs.queue import JobQueue
from upscaled_server.jobs.tracing import attempt_of, note_outcome
from upscaled_server.jobs.verdicts import Finish, Verdicts
from upscaled_server.jobs.work import Made, Work
from upscaled_server.pipeline.events import Progress, Stage
from upscaled_server.telemetry import metrics, tracing

log = logging.getLogger(__name__)

# A job waits as long as a call may take for what is short now: devices, room on the disk.
_SHORTEST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_PATIENCE_SECONDS = 24 * 3600.0
_WRITE_AGAIN_SECONDS = 15.0


class Runner:
    def __init__(
        self,
        ending: Ending,
        queue: JobQueue,
        work: Work,
        helpers: Helpers,
        *,
        max_running: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ending = ending
        self._book = ending.book
        self._board = ending.board
        self._queue = queue
        self._work = work
        self._helpers = helpers
        self._verdicts = Verdicts(helpers.describe)
        self._max_running = max_running
        self._clock = clock
        self._running: dict[str, asyncio.Task[Made]] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self) -> None:
        self._slots = [
            asyncio.create_task(self._serve(), name=f"jobs {number}") for number in range(self._max_running)
        ]

    async def stop(self) -> None:
        """Running jobs go back to the queue, for the next process."""
        self._stopping = True
        self._queue.close()
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    def interrupt(self, job_id: str) -> None:
        """Stop working on a job that is to be cancelled."""
        if (task := self._running.get(job_id)) is not None:
            task.cancel()

    async def _serve(self) -> None:
        while (job_id := await self._queue.take()) is not None:
            place = self._board.get(job_id)
            if place is None:
                continue
            with attempt_of(place.job, self._clock()) as span:
                task = self._running[job_id] = asyncio.create_task(self._attempt(place), name=f"job {job_id}")
                await asyncio.wait([task])
                del self._running[job_id]
                try:
                    with tracing.within(tracing.start("conclude")):
                        await self._conclude(place, task)
                except Exception:  # the next job must run all the same
                    log.exception("job %s is left as it is until the next start", job_id)
                note_outcome(span, place.job)

    async def _attempt(self, place: Place) -> Made:
        caller = self._helpers.caller_of(place.job.caller)
        if caller is None:
            raise PermissionDenied(
                f"caller {place.job.caller} does not exist any more", caller=place.job.caller
            )
        now = self._clock()

        def begin(each: Job) -> Job:
            return each if each.cancelling or each.state.final else each.begun(now)

        job = await self._book.change(place.job.caller, place.job.id, begin)
        place.tiles = 0
        place.show(job)
        if job.cancelling or job.state.final:
            raise asyncio.CancelledError
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await self._work.run(job, caller, place)
            except WorkerLost:
                raise
            except (Overloaded, StorageFull, Unavailable) as error:
                if time.monotonic() > give_up:
                    raise
                log.info("job %s waits: %s", job.id, error.message)
                place.show_progress(Progress(Stage.QUEUE, 0.0, 0, 0), self._clock())
                await asyncio.sleep(_wait_seconds(error))
                job = await self._book.get(job.caller, job.id)

    async def _conclude(self, place: Place, task: asyncio.Task[Made]) -> None:
        """Write down how the attempt ended, however long that takes."""
        finish = self._verdicts.of(task)
        while True:
            try:
                await self._write(place, finish)
                return
            except DomainError as error:
                log.error("the end of job %s cannot be written down: %s", place.job.id, error.message)
                if self._stopping:
                    return  # the next start finds it running, and runs it again
                await asyncio.sleep(_WRITE_AGAIN_SECONDS)

    async def _write(self, place: Place, finish: Finish) -> None:
        caller, job_id = place.job.caller, place.job.id
        while True:
            now = self._clock()
            job = await self._book.get(caller, job_id)
            if job.state.final or finish(job, now).state.final:
                await self._ending.end(caller, job_id, finish)
                return

            def put_back(each: Job, now: float = now) -> Job:
                back = finish(each, now)
                return each if back.state.final else back  # somebody cancelled it just now

            job = await self._book.change(caller, job_id, put_back)
            if job.state is State.QUEUED:
                break
        place.show(job)
        if not self._stopping:
            metrics.JOB_RETRIES.inc()
            self._queue.put(job, self._weight_of(job.caller))

    def _weight_of(self, caller: str) -> float:
        found = self._helpers.caller_of(caller)
        return 1.0 if found is None else found.weight


def _wait_seconds(error: DomainError) -> float:
    wanted = error.retry_after_seconds if isinstance(error, Overloaded) else _SHORTEST_WAIT_SECONDS * 5
    return min(max(wanted, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
