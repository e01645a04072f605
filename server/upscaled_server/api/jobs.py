"""`Jobs`: work that outlives calls."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from upscaled.v1 import jobs_pb2, jobs_pb2_grpc
from upscaled_server.access.caller import Caller
from upscaled_server.api import caller, translate
from upscaled_server.api.job_translate import JobMessages, to_filters, to_new_job, to_wait
from upscaled_server.errors import CallerGone
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.jobs.following import Snapshot
from upscaled_server.jobs.job import Job
from upscaled_server.jobs.service import Jobs
from upscaled_server.pipeline.limits import LimitSettings

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# So much before the end of a call its answer must be on its way.
_MARGIN_SECONDS = 0.25


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Streams are written with `context.write`, so that one who reads nothing is noticed."""

    def __init__(
        self, jobs: Jobs, messages: JobMessages, keeping: KeepingSettings, limits: LimitSettings
    ) -> None:
        self._jobs = jobs
        self._messages = messages
        self._keeping = keeping
        self._limits = limits

    async def CreateJob(self, message: jobs_pb2.CreateJobRequest, context: Context) -> jobs_pb2.Job:
        who = _caller()
        caller.name_request(translate.to_request_id(message.request_id))
        wait = to_wait(message, self._longest_wait(context))
        new = to_new_job(message, who, self._keeping)
        if message.validate_only:
            plan = await self._jobs.plan(new, self._longest_wait(context))
            return jobs_pb2.Job(
                request_id=new.request_id,
                options=translate.from_options(new.options),
                labels=new.options.labels,
                plan=None if plan is None else translate.from_plan(plan),
            )
        job = await self._jobs.create(new)
        del new
        if wait is None:
            return self._messages.job(self._jobs.shown(job))
        return self._messages.job(await self._jobs.ended(who, job.id, wait))

    async def GetJob(self, message: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.Job:
        return self._messages.job(await self._jobs.get(_caller(), message.job_id))

    async def ListJobs(
        self, message: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        page = await self._jobs.list(
            _caller(), to_filters(message), size=message.page_size, token=message.page_token
        )
        answer = jobs_pb2.ListJobsResponse(next_page_token=page.token)
        for number, job in enumerate(page.jobs):
            answer.jobs.append(self._messages.job(self._jobs.shown(job)))
            if number % 100 == 99:
                await asyncio.sleep(0)  # others have a turn
        return answer

    async def WatchJob(  # type: ignore[override]  # it writes instead of yielding
        self, message: jobs_pb2.WatchJobRequest, context: Context
    ) -> None:
        events = self._jobs.watch(_caller(), message.job_id, message.after_event_number)
        async with aclosing(events):
            async for event in events:
                await self._write(self._messages.event(event), context)

    async def StreamTiles(  # type: ignore[override]  # it writes instead of yielding
        self, message: jobs_pb2.StreamTilesRequest, context: Context
    ) -> None:
        after = message.after_sequence if message.HasField("after_sequence") else None
        tiles = self._jobs.tiles(_caller(), message.job_id, after)
        async with aclosing(tiles):
            async for tile in tiles:
                await self._write(translate.from_tile(tile), context)

    async def CancelJob(self, message: jobs_pb2.CancelJobRequest, context: Context) -> jobs_pb2.Job:
        return self._messages.job(await self._jobs.cancel(_caller(), message.job_id))

    async def DeleteJob(self, message: jobs_pb2.DeleteJobRequest, context: Context) -> Empty:
        await self._jobs.delete(_caller(), message.job_id)
        return Empty()

    async def _write(self, message: Message, context: Context) -> None:
        idle = self._limits.reader_idle_seconds
        try:
            async with asyncio.timeout(idle) as waiting:
                await context.write(message)
        except TimeoutError:
            if not waiting.expired():
                raise
            raise CallerGone(f"nothing was read for {idle:g} seconds", reader_idle_seconds=idle) from None
        except (grpc.aio.InternalError, grpc.aio.UsageError):
            raise CallerGone("the caller left before the end of the answer") from None

    def _longest_wait(self, context: Context) -> float:
        remaining = context.time_remaining()
        longest = self._limits.max_call_seconds
        if remaining is not None:
            longest = min(longest, remaining - _MARGIN_SECONDS)
        return max(0.0, longest)


def rendered(messages: JobMessages, job: Job) -> bytes:
    """The body of a callback: the job as JSON, as GetJob answers it over HTTP."""
    text: str = json_format.MessageToJson(
        messages.job(Snapshot(job)), indent=None, preserving_proto_field_name=True
    )
    return text.encode()


def _caller() -> Caller:
    return caller.identity.get().caller
