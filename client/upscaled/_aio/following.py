"""A job's events and tiles, each once, over however many broken streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

from upscaled import _enums
from upscaled._aio.calls import Calls
from upscaled._aio.resuming import PATIENCE_SECONDS, resumed
from upscaled._errors import UnavailableError
from upscaled._jobs import FINAL_STATES, JobEvent
from upscaled._results import Progress, Tile
from upscaled._retry import Deadline
from upscaled._times import when
from upscaled._types import NOT_GIVEN
from upscaled.v1 import jobs_pb2


class Follower(Protocol):
    """Who wants to know: is told everything that arrives, before it is handed out."""

    def hear(self, event: jobs_pb2.JobEvent) -> None: ...

    def learn(self, job: jobs_pb2.Job) -> None: ...


async def events_of(
    calls: Calls, job_id: str, state: str, after: int, follower: Follower
) -> AsyncGenerator[JobEvent, None]:
    """The events behind number `after`, until the job has ended. `state` is the last known one."""
    deadline = Deadline(None)
    attempts = calls.attempts(NOT_GIVEN, deadline, patience_seconds=PATIENCE_SECONDS)
    attempts.progressed()  # the server has told of this job
    number = after

    def watch() -> object:
        request = jobs_pb2.WatchJobRequest(job_id=job_id, after_event_number=number)
        return calls.transport.jobs.WatchJob(request, metadata=calls.transport.metadata)

    while True:
        async with contextlib.aclosing(resumed(calls.transport, watch, attempts)) as messages:
            async for message in messages:
                if message.number <= number:
                    continue  # a server that begins again at the beginning
                number = message.number
                event = _event(message, state)
                if event is None:
                    continue
                state = event.state
                follower.hear(message)
                yield event
                if event.final:
                    return
        # A clean end without the last event: the job had ended before `after`, or the server is stopping.
        job = await calls.lookup("jobs", "GetJob", jobs_pb2.GetJobRequest(job_id=job_id), NOT_GIVEN)
        follower.learn(job)
        if _enums.JOB_STATE.name(job.state) in FINAL_STATES and job.last_event_number <= number:
            return
        await attempts.pause(UnavailableError(f"the server stopped sending the events of job {job_id}"))


async def tiles_of(calls: Calls, job_id: str, after: int | None) -> AsyncGenerator[Tile, None]:
    """The finished tiles behind sequence `after`, until the job has ended."""
    attempts = calls.attempts(NOT_GIVEN, Deadline(None), patience_seconds=PATIENCE_SECONDS)
    attempts.progressed()
    sequence = after

    def stream() -> object:
        request = jobs_pb2.StreamTilesRequest(job_id=job_id, after_sequence=sequence)
        return calls.transport.jobs.StreamTiles(request, metadata=calls.transport.metadata)

    async with contextlib.aclosing(resumed(calls.transport, stream, attempts)) as messages:
        async for message in messages:
            if sequence is None or message.sequence > sequence:
                sequence = message.sequence
                yield Tile.from_message(message)


def _event(message: jobs_pb2.JobEvent, state: str) -> JobEvent | None:
    """The value for a message; `None` for an event that only a newer contract knows."""
    kind = message.WhichOneof("event")
    if kind == "job":
        return JobEvent(
            message.number, when(message, "time"), _enums.JOB_STATE.name(message.job.state), progress=None
        )
    if kind == "progress":
        return JobEvent(message.number, when(message, "time"), state, Progress.from_message(message.progress))
    return None
