"""One job, as `client.jobs` hands it out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from upscaled._aio.calls import Calls
from upscaled._aio.following import events_of, tiles_of
from upscaled._aio.outputs import AsyncOutputs
from upscaled._aio.streams import AsyncStream
from upscaled._errors import CallCancelledError, DeadlineExceededError, InvalidOptionError, UpscaledError
from upscaled._jobs import JobEvent, JobFacts
from upscaled._results import Progress, Result, Tile
from upscaled._types import NOT_GIVEN, NotGiven
from upscaled.v1 import jobs_pb2


class AsyncJob(JobFacts):
    """Work that the server keeps until it is done, whatever becomes of this process. Its properties tell
    what was last heard of it.
    """

    def __init__(self, calls: Calls, outputs: AsyncOutputs, message: jobs_pb2.Job) -> None:
        self._calls = calls
        self._outputs = outputs
        self._known = _Known(message)

    @property
    def _message(self) -> jobs_pb2.Job:
        return self._known.job

    async def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Progress], None] | None = None
    ) -> Result:
        """Waits until the job has ended, over broken connections and restarts of the server, and answers with
        its result.

        Raises the job's own error if it failed, CallCancelledError if it was cancelled, and
        DeadlineExceededError after `timeout` seconds; the job goes on then. `on_progress` is called in the
        client's event loop and must be quick.
        """
        try:
            # What came before the last known event is of no interest here.
            async with asyncio.timeout(timeout), self.watch(self.last_event_number) as events:
                if not self.done:
                    async for event in events:
                        if event.progress is not None and on_progress is not None:
                            on_progress(event.progress)
        except TimeoutError as error:
            if isinstance(error, UpscaledError):
                raise
            raise DeadlineExceededError(
                f"job {self.id} is {self.state} after {timeout:g} s of waiting; it goes on",
                request_id=self.request_id,
            ) from None
        return self._outcome()

    def watch(self, after: int | None = None) -> AsyncStream[JobEvent]:
        """What happens to the job, from its beginning, or behind event number `after`; ends with the event
        of the final state. Goes on by itself after a broken stream. Leaving it does nothing to the job.
        """

        return AsyncStream(events_of(self._calls, self._recorded(), self.state, after or 0, self._known))

    def tiles(self, after: int | None = None) -> AsyncStream[Tile]:
        """The finished tiles of a job that was created with `tiles`, in the order of completion, from the
        first or behind sequence `after`; while it runs, and afterwards until its outputs expire. Goes on by
        itself after a broken stream.
        """
        return AsyncStream(tiles_of(self._calls, self._recorded(), after))

    async def refresh(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Self:
        """Asks the server how the job is."""
        request = jobs_pb2.GetJobRequest(job_id=self._recorded())
        self._known.learn(await self._calls.lookup("jobs", "GetJob", request, timeout))
        return self

    async def cancel(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Self:
        """Stops the job: at once if it is queued, within a moment if it runs, so that `state` may still be
        `running`. Does nothing to a job that has ended.
        """
        request = jobs_pb2.CancelJobRequest(job_id=self._recorded())
        self._known.learn(await self._calls.lookup("jobs", "CancelJob", request, timeout))
        return self

    async def delete(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> None:
        """Deletes a job that has ended, with its outputs. FailedPreconditionError if it has not."""
        request = jobs_pb2.DeleteJobRequest(job_id=self._recorded())
        await self._calls.lookup("jobs", "DeleteJob", request, timeout)

    async def download(
        self, path: str | os.PathLike[str], *, timeout: float | None | NotGiven = NOT_GIVEN
    ) -> Path:
        """Fetches the job's output, see `client.outputs.download`. SourceError if there is none yet."""
        return await self._outputs.download(self, path, timeout=timeout)

    async def read(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> bytes:
        """The job's output in memory. SourceError if there is none yet."""
        return await self._outputs.read(self, timeout=timeout)

    def _outcome(self) -> Result:
        if self.result is not None:
            return self.result
        if (error := self.error) is not None:
            raise error
        raise CallCancelledError(f"job {self.id} was {self.state}", request_id=self.request_id)

    def _recorded(self) -> str:
        if not self.id:
            raise InvalidOptionError("the job was only checked (validate_only) and is not recorded")
        return self.id


class _Known:
    """The newest known of a job. Watching from its beginning tells old news, which changes nothing."""

    def __init__(self, job: jobs_pb2.Job) -> None:
        self.job = job

    def hear(self, event: jobs_pb2.JobEvent) -> None:
        if event.number < self.job.last_event_number:
            return
        if event.WhichOneof("event") == "job":
            self.job = event.job
        else:
            self.job.progress.CopyFrom(event.progress)
        self.job.last_event_number = event.number

    def learn(self, job: jobs_pb2.Job) -> None:
        self.job = job
