"""`client.jobs`: work that outlives calls."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Unpack

from upscaled import _enums
from upscaled._aio.calls import Calls
from upscaled._aio.job import AsyncJob
from upscaled._aio.outputs import AsyncOutputs
from upscaled._aio.streams import AsyncStream
from upscaled._aio.uploading import send_input
from upscaled._options import Options, add_tiles, build_options
from upscaled._retry import Deadline, Retries
from upscaled._sources import Chosen, choose_source
from upscaled._times import duration, timestamp
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles
from upscaled._uploads import open_upload
from upscaled.v1 import jobs_pb2, options_pb2

INLINE_BYTES: Final = 8 * 1024 * 1024
"""Images above this are uploaded first: an upload goes on where it broke, a message begins again."""
_MESSAGE_FIELDS_BYTES: Final = 64 * 1024


class AsyncJobs:
    """Work that outlives calls, as `client.jobs`."""

    def __init__(self, calls: Calls, outputs: AsyncOutputs) -> None:
        self._calls = calls
        self._outputs = outputs

    async def create(
        self,
        source: ImageSource | None = None,
        *,
        url: str | None = None,
        input_id: str | None = None,
        output_id: str | None = None,
        tiles: bool | Tiles = False,
        callback_url: str | None = None,
        wait: timedelta | float | None = None,
        retention: timedelta | float | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        **options: Unpack[Options],
    ) -> AsyncJob:
        """Gives the server a job to keep and to do, and answers as soon as it is recorded.

        Source and options as in `upscale`; a large image is uploaded first, resumably. `wait` (seconds) keeps
        the call open until the job has ended or that time is over. `callback_url` is told when it has ended.
        `retention` is how long job and outputs are kept then. `tiles` makes finished tiles available to
        `job.tiles()`. `request_id` makes creation idempotent: the same id with the same payload gives the
        same job, also from another process; left out, one is made, so that the SDK's own retries cannot
        create two jobs. `validate_only` answers with a job that has a plan but no id.
        """
        message = build_options("jobs.create", options)
        add_tiles(message, tiles)
        chosen = choose_source(source, url=url, input_id=input_id, output_id=output_id)
        deadline = self._calls.deadline(timeout)
        identity = request_id or uuid.uuid4().hex
        request = jobs_pb2.CreateJobRequest(
            source=await self._source(chosen, identity, deadline, retries, begun=request_id is not None),
            options=message,
            request_id=identity,
            validate_only=validate_only,
            callback_url=callback_url or "",
            wait=duration("wait", wait),
            retention=duration("retention", retention),
        )
        attempts = self._calls.attempts(retries, deadline)
        answer = await self._calls.unary(
            "jobs", "CreateJob", request, deadline, attempts, request_id=identity
        )
        return self._job(answer)

    async def get(self, job_id: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> AsyncJob:
        """A job of this caller. NotFoundError if there is none, or it has expired."""
        request = jobs_pb2.GetJobRequest(job_id=job_id)
        return self._job(await self._calls.lookup("jobs", "GetJob", request, timeout))

    def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: datetime | date | None = None,
        created_before: datetime | date | None = None,
        page_size: int | None = None,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> AsyncStream[AsyncJob]:
        """This caller's jobs, newest first: those in one of the states, with all of the labels, created at or
        after and before the times. Pages are fetched as the reader comes to them; `timeout` is for each.
        """
        wanted = [states] if isinstance(states, str) else states or []
        request = jobs_pb2.ListJobsRequest(
            page_size=page_size or 0,
            states=[_enums.JOB_STATE.number("states", state) for state in wanted],  # type: ignore[misc]  # plain numbers
            labels=[f"{key}={value}" for key, value in (labels or {}).items()],
            created_after=timestamp("created_after", created_after),
            created_before=timestamp("created_before", created_before),
        )

        async def run() -> AsyncGenerator[AsyncJob, None]:
            while True:
                answer = await self._calls.lookup("jobs", "ListJobs", request, timeout)
                for job in answer.jobs:
                    yield self._job(job)
                request.page_token = answer.next_page_token
                if not request.page_token:
                    return

        return AsyncStream(run())

    async def _source(
        self,
        chosen: Chosen,
        identity: str,
        deadline: Deadline,
        retries: Retries | int | NotGiven,
        *,
        begun: bool,
    ) -> options_pb2.Source:
        """`begun`: an earlier process may have asked for the same, and sent a part of it."""
        if chosen.message is not None:
            return chosen.message
        limits = await self._calls.limits(deadline, self._calls.attempts(retries, deadline))

        async def max_input_bytes() -> int:
            return limits.max_input_bytes

        upload = await open_upload(chosen.local, max_bytes=max_input_bytes)
        try:
            if upload.size <= min(INLINE_BYTES, limits.max_message_bytes - _MESSAGE_FIELDS_BYTES):
                return options_pb2.Source(image=b"".join([chunk async for chunk in upload.chunks()]))
            # Made from the job's, so that creating the job again names the same input.
            input_request = "input-" + hashlib.sha256(identity.encode()).hexdigest()
            stored = await send_input(self._calls, upload, input_request, deadline, retries, begun=begun)
            return options_pb2.Source(input_id=stored.id)
        finally:
            await upload.close()

    def _job(self, message: jobs_pb2.Job) -> AsyncJob:
        return AsyncJob(self._calls, self._outputs, message)
