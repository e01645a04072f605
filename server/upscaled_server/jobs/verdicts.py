"""What follows for a job from how an attempt at it ended."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from upscaled_server.errors import DomainError, ProcessingFailed, WorkerLost
from upscaled_server.jobs.job import Failure, Job, State
from upscaled_server.jobs.work import Made

log = logging.getLogger(__name__)

MAX_LOST_WORKERS = 2
"""Work that ends so many workers is given up."""

Finish = Callable[[Job, float], Job]
"""The job in a final state, or back in the queue, at a moment of time."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`describe` gives an error as a serialized `google.rpc.Status`."""

    describe: Callable[[DomainError], bytes]

    def of(self, attempt: asyncio.Task[Made]) -> Finish:
        if attempt.cancelled():
            return interrupted
        error = attempt.exception()
        if error is None:
            made = attempt.result()
            return lambda job, now: succeeded(job, made, now)
        if isinstance(error, WorkerLost):
            return self._lost_a_worker
        if not isinstance(error, DomainError):
            log.error("unexpected error in %s", attempt.get_name(), exc_info=error)
            error = ProcessingFailed("an internal error occurred; the server's log has the particulars")
        return self.failed(error)

    def failed(self, error: DomainError) -> Finish:
        status = base64.b64encode(self.describe(error)).decode()
        failure = Failure(error.reason, error.message, status)
        return lambda job, now: replace(job.ended_as(State.FAILED, now), failure=failure)

    def died_with_server(self, most: int) -> Finish:
        """The server ended while the job was running. Whoever is there too often when that happens is taken
        for the cause, else a job that uses up all memory would keep the server down for ever."""

        def finish(job: Job, now: float) -> Job:
            if job.cancelling:
                return job.ended_as(State.CANCELLED, now)
            job = replace(job, restarts=job.restarts + 1)
            if job.restarts < most:
                return job.put_back(now)
            return self.failed(
                ProcessingFailed(
                    f"the server ended {job.restarts} times while it worked on this job, which is given up",
                    limit=most,
                    actual=job.restarts,
                )
            )(job, now)

        return finish

    def _lost_a_worker(self, job: Job, now: float) -> Job:
        if job.cancelling:
            return job.ended_as(State.CANCELLED, now)
        job = replace(job, lost_workers=job.lost_workers + 1)
        if job.lost_workers < MAX_LOST_WORKERS:
            return job.put_back(now)
        return self.failed(
            ProcessingFailed(
                f"the work on this job ended {job.lost_workers} worker processes, and is given up",
                limit=MAX_LOST_WORKERS,
                actual=job.lost_workers,
            )
        )(job, now)


def interrupted(job: Job, now: float) -> Job:
    """Because it was cancelled, else because the server stops."""
    return job.ended_as(State.CANCELLED, now) if job.cancelling else job.put_back(now)


def succeeded(job: Job, made: Made, now: float) -> Job:
    return replace(
        job.ended_as(State.SUCCEEDED, now),
        plan=made.done.plan,
        done=made.done,
        input=made.input,
        output_id=job.id if made.has_output else "",
        tiles=made.tiles,
    )
