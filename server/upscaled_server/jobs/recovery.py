"""What a server by itself finds of the life before. Reads only what had not ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from upscaled_server.errors import DomainError, Overloaded, ProcessingFailed
from upscaled_server.jobs.creation import undo
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.local_queue import LocalQueue
from upscaled_server.jobs.ports import Helpers
from upscaled_server.jobs.records import Live
from upscaled_server.jobs.verdicts import Verdicts, interrupted
from upscaled_server.telemetry import metrics

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What became of the jobs that had not ended."""

    queued: int = 0
    run_again: int = 0
    ended: int = 0
    taken_back: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Recovery:
    ending: Ending
    queue: LocalQueue
    helpers: Helpers
    max_restarts: int
    clock: Callable[[], float]

    async def recover(self) -> Recovered:
        found = Recovered()
        for live in await self.ending.book.all_live():
            try:
                await self._take_up(live, found)
            except ProcessingFailed as error:
                # One damaged entry keeps one job from its end, not all of them.
                found.damaged += 1
                log.error("job %s cannot go on: %s", live.id, error.message)
            except DomainError as error:
                log.warning("job %s is taken up later: %s", live.id, error.message)
        return found

    async def _take_up(self, live: Live, found: Recovered) -> None:
        book = self.ending.book
        stored = await book.find(live.caller, live.id)
        if stored is None:
            # It was never acknowledged.
            await undo(book, self.ending.files, live.caller, live.id)
            found.taken_back += 1
            return
        job = stored.job
        if job.state.final:
            await self.ending.settle(job)
            found.ended += 1
            return
        self.ending.board.add(job)
        if job.state is State.RUNNING:
            found.run_again += 1
            verdict = Verdicts(self.helpers.describe).died_with_server(self.max_restarts)
            if verdict(job, self.clock()).state.final:
                await self.ending.end(job.caller, job.id, verdict)
                return
            metrics.JOB_RETRIES.inc()
            now = self.clock()
            try:
                job = await book.change(job.caller, job.id, lambda each: verdict(each, now))
            except Overloaded as error:  # the disk is full; the job waits for room like every other
                log.warning("that job %s runs again is not written down: %s", job.id, error.message)
        elif job.cancelling:
            await self.ending.end(job.caller, job.id, interrupted)
            return
        else:
            found.queued += 1
        self._queue_up(job)

    def _queue_up(self, job: Job) -> None:
        if (place := self.ending.board.get(job.id)) is not None:
            place.show(job)
        caller = self.helpers.caller_of(job.caller)
        self.queue.put(job, 1.0 if caller is None else caller.weight)
