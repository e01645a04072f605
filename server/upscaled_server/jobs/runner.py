"""Runs jobs, a bounded number at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from upscaled_server.errors import (
    DomainError,
    NotFound,
    Overloaded,
    PermissionDenied,
    StorageFull,
    Unavailable,
    WorkerLost,
)
from upscaled_server.jobs.board import Place
from upscaled_server.jobs.creation import undo
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.ports import Helpers
from upscaled_server.jobs.queue import Queue, Turn
from upscaled_server.jobs.records import Stored, job_key
from upscaled_server.jobs.tracing import attempt_of, note_outcome
from upscaled_server.jobs.verdicts import Finish, Verdicts, interrupted
from upscaled_server.jobs.work import Made, Work
from upscaled_server.pipeline.events import Progress, Stage
from upscaled_server.state.watching import Watch
from upscaled_server.telemetry import metrics, tracing

log = logging.getLogger(__name__)

# For what is short now: devices, room on the disk.
_SHORTEST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_PATIENCE_SECONDS = 24 * 3600.0
_WRITE_AGAIN_SECONDS = 5.0
# A turn may come before the record that it is for, and without one where that was given up.
_RECORD_SECONDS = 2.0
_RECORD_AGAIN_SECONDS = 5.0


class Runner:
    """A job is taken, made RUNNING under a new number of attempts, worked on, and written down with the
    outcome; only then its turn is over. Whatever happens in between, there is another turn, here or
    elsewhere, and nothing counts that an attempt of an older number has to say.
    """

    def __init__(
        self,
        ending: Ending,
        queue: Queue,
        work: Work,
        helpers: Helpers,
        *,
        max_running: int,
        max_restarts: int,
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
        self._max_restarts = max_restarts
        self._clock = clock
        # Two may be at one job for a moment: of a turn that was lost, and of the one that came after it.
        self._running: set[asyncio.Task[Made]] = set()
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
        """Running jobs go back to the queue."""
        self._stopping = True
        self._queue.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    async def _serve(self) -> None:
        while (turn := await self._queue.take()) is not None:
            try:
                await self._use(turn)
            except DomainError as error:
                log.warning("job %s is put off: %s", turn.job_id, error.message)
                await self._give_back(turn, _WRITE_AGAIN_SECONDS)
            except Exception:  # the next job must run all the same
                log.exception("job %s is put off", turn.job_id)
                await self._give_back(turn, _WRITE_AGAIN_SECONDS)

    async def _give_back(self, turn: Turn, seconds: float) -> None:
        with suppress(DomainError):  # it comes again by itself
            await turn.again(seconds)

    async def _use(self, turn: Turn) -> None:
        with self._book.store.watch(job_key(turn.caller, turn.job_id)) as news:
            stored = await self._recorded(turn, news)
            if stored is None:
                await self._without_record(turn)
                return
            try:
                job = await self._begun(stored.job)
            except NotFound:  # it had ended, and was deleted at once
                await turn.done()
                return
            if job.state is State.RUNNING:
                with attempt_of(stored.job, self._clock()) as span:
                    job, again = await self._attempt_at(job, turn, news)
                    note_outcome(span, job)
                if again is not None:
                    await self._give_back(turn, again)
                    return
            await turn.done()

    async def _begun(self, job: Job) -> Job:
        """The job as a new attempt finds it: running, or at its end."""
        if job.state.final:
            await self._ending.settle(job)
            return job

        def begin(each: Job, now: float) -> Job:
            if each.state.final:
                return each
            if each.state is State.RUNNING:  # whoever had this turn before is gone
                each = self._verdicts.died_with_server(self._max_restarts)(each, now)
            elif each.cancelling:
                each = each.ended_as(State.CANCELLED, now)
            return each if each.state.final else each.begun(now)

        if begin(job, self._clock()).state.final:
            return await self._ending.end(job.caller, job.id, begin)
        if job.state is State.RUNNING:
            metrics.JOB_RETRIES.inc()
        job = await self._book.change(
            job.caller, job.id, lambda each: _unless_final(each, begin(each, self._clock()))
        )
        return job if job.state is State.RUNNING else await self._begun(job)

    async def _recorded(self, turn: Turn, news: Watch) -> Stored | None:
        stored = await self._book.find(turn.caller, turn.job_id)
        if stored is None and not turn.record_due:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECORD_SECONDS):
                    await anext(news)
            stored = await self._book.find(turn.caller, turn.job_id)
        return stored

    async def _without_record(self, turn: Turn) -> None:
        if not turn.record_due:
            await self._give_back(turn, _RECORD_AGAIN_SECONDS)
            return
        await undo(self._book, self._ending.files, turn.caller, turn.job_id)
        await turn.done()

    async def _attempt_at(self, job: Job, turn: Turn, news: Watch) -> tuple[Job, float | None]:
        """Work on a job that has begun, and write down what came of it. The job then, and in how many seconds
        there is to be another turn; None: it has ended."""
        async with self._board.working(job) as place:
            place.tiles = 0
            place.show(job)
            task = asyncio.create_task(self._work_on(job, place, turn), name=f"job {job.id}")
            self._running.add(task)
            if self._stopping:
                task.cancel()
            ends = [
                asyncio.create_task(self._end_when_unwanted(job, task, news), name=f"news of job {job.id}"),
                asyncio.create_task(_end_when_lost(turn, task), name=f"turn of job {job.id}"),
            ]
            try:
                await asyncio.wait([task])
            finally:
                self._running.discard(task)
                for each in ends:
                    each.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
            with tracing.within(tracing.start("conclude")):
                again = await self._conclude(place, job.attempts, task, turn)
            return place.job, again

    async def _end_when_unwanted(self, job: Job, task: asyncio.Task[Made], news: Watch) -> None:
        """It may be cancelled anywhere."""
        async for _ in news:
            if not await self._is_ours(job):
                task.cancel()
                return

    async def _is_ours(self, job: Job) -> bool:
        """Whether this attempt is still wanted."""
        try:
            stored = await self._book.find(job.caller, job.id)
        except DomainError:
            return True  # nobody knows, so that stands
        return stored is not None and _is_attempt(stored.job, job.attempts) and not stored.job.cancelling

    async def _work_on(self, job: Job, place: Place, turn: Turn) -> Made:
        caller = self._helpers.caller_of(job.caller)
        if caller is None:
            raise PermissionDenied(f"caller {job.caller} does not exist any more", caller=job.caller)
        give_up = time.monotonic() + turn.patience_seconds
        while True:
            try:
                return await self._work.run(job, caller, place)
            except DomainError as error:
                if not _is_short_now(error) or time.monotonic() > give_up:
                    raise
                log.info("job %s waits: %s", job.id, error.message)
                place.show_progress(Progress(Stage.QUEUE, 0.0, 0, 0), self._clock())
                await asyncio.sleep(_wait_seconds(error))
                job = await self._book.get(job.caller, job.id)

    async def _conclude(
        self, place: Place, attempt: int, task: asyncio.Task[Made], turn: Turn
    ) -> float | None:
        """Write down how the attempt ended, however long that takes. See `_attempt_at`."""
        finish, again = self._outcome(place.job, task)
        while not turn.lost.is_set():
            try:
                return again if await self._write(place, attempt, finish) else None
            except NotFound:
                return None  # it had ended, and was deleted at once
            except DomainError as error:
                log.error("the end of job %s cannot be written down: %s", place.job.id, error.message)
                if self._stopping:
                    break  # it is found running, and run again
                await asyncio.sleep(_WRITE_AGAIN_SECONDS)
        return 0.0

    def _outcome(self, job: Job, task: asyncio.Task[Made]) -> tuple[Finish, float]:
        """What is to be written down, and in how many seconds there is to be another turn if that is no
        end."""
        error = None if task.cancelled() else task.exception()
        if _is_short_now(error) and self._clock() < (job.started or 0.0) + _PATIENCE_SECONDS:
            return interrupted, _wait_seconds(error)
        return self._verdicts.of(task), 0.0

    async def _write(self, place: Place, attempt: int, finish: Finish) -> bool:
        """Whether there is to be another turn."""

        def fenced(each: Job, now: float) -> Job:
            return finish(each, now) if _is_attempt(each, attempt) else each

        def put_back(each: Job) -> Job:
            return _unless_final(each, fenced(each, self._clock()))

        caller, job_id = place.job.caller, place.job.id
        while True:
            job = await self._book.get(caller, job_id)
            if job.state.final:
                return False
            if not _is_attempt(job, attempt):
                return True
            if fenced(job, self._clock()).state.final:
                job = await self._ending.end(caller, job_id, fenced)
            else:
                job = await self._book.change(caller, job_id, put_back)
                if job.state is State.QUEUED:
                    place.show(job)
                    if not self._stopping:
                        metrics.JOB_RETRIES.inc()
                    return True


async def _end_when_lost(turn: Turn, task: asyncio.Task[Made]) -> None:
    await turn.lost.wait()
    task.cancel()


def _is_attempt(job: Job, attempt: int) -> bool:
    return job.state is State.RUNNING and job.attempts == attempt


def _unless_final(before: Job, after: Job) -> Job:
    """An end is written by `Ending` alone."""
    return before if after.state.final else after


def _is_short_now(error: BaseException | None) -> bool:
    return isinstance(error, Overloaded | StorageFull | Unavailable) and not isinstance(error, WorkerLost)


def _wait_seconds(error: BaseException | None) -> float:
    wanted = error.retry_after_seconds if isinstance(error, Overloaded) else _SHORTEST_WAIT_SECONDS * 5
    return min(max(wanted, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
