"""The service Jobs of the fake server: keeps jobs in memory, moves them on when told, breaks when told."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2

from upscaled.v1 import jobs_pb2, jobs_pb2_grpc, result_pb2

QUEUED, RUNNING = jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_RUNNING
SUCCEEDED, FAILED = jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED
CANCELLED = jobs_pb2.JOB_STATE_CANCELLED
FINAL = (SUCCEEDED, FAILED, CANCELLED)


@dataclass
class Kept:
    """A job and everything that happened to it."""

    job: jobs_pb2.Job
    payload: bytes
    events: list[jobs_pb2.JobEvent] = field(default_factory=list)
    tiles: int = 0


class FakeJobs(jobs_pb2_grpc.JobsServicer):
    def __init__(self, server: Any) -> None:
        self.server = server
        self.kept: dict[str, Kept] = {}
        self.at_once = True  # a job is done when it is created
        self.error: status_pb2.Status | None = None  # how a job ends that fails
        self.progresses = 3
        self.tiles = 4
        self.cuts: deque[int] = deque()  # a stream breaks after so many messages
        self.clean_ends: deque[int] = deque()  # a stream ends well after so many messages

    # What tests do with them.

    def move(self, job_id: str, state: int) -> None:
        """Another state, with its event; at the end the result or the error."""
        kept = self.kept[job_id]
        kept.job.state = state  # type: ignore[assignment]
        if state == RUNNING:
            kept.job.attempts += 1
            kept.job.start_time.FromSeconds(1_700_000_010)
        if state in FINAL:
            kept.job.ClearField("progress")
            kept.job.end_time.FromSeconds(1_700_000_020)
        if state == SUCCEEDED:
            options = kept.job.options
            kept.job.result.CopyFrom(self.server.result(options, kept.job.request_id, inline=False))
            output = kept.job.result.outputs[0]
            output.id, output.url = job_id, f"http://example/{job_id}"
            self.server.files.outputs[job_id] = self.server.file
        if state == FAILED and self.error is not None:
            kept.job.error.CopyFrom(self.error)
        kept.job.last_event_number += 1
        event = jobs_pb2.JobEvent(number=kept.job.last_event_number, job=kept.job)
        kept.events.append(event)

    def progress(self, job_id: str, fraction: float) -> None:
        kept = self.kept[job_id]
        kept.job.progress.CopyFrom(
            result_pb2.Progress(
                stage=result_pb2.STAGE_INFER, fraction=fraction, rows_done=int(fraction * 12), rows_total=12
            )
        )
        kept.job.last_event_number += 3  # gaps are allowed
        kept.events.append(jobs_pb2.JobEvent(number=kept.job.last_event_number, progress=kept.job.progress))

    def run(self, job_id: str, end: int = SUCCEEDED) -> None:
        self.move(job_id, RUNNING)
        for step in range(self.progresses):
            self.progress(job_id, (step + 1) / (self.progresses + 1))
        self.kept[job_id].tiles = self.tiles
        self.move(job_id, end)

    # The contract.

    async def CreateJob(self, request: Any, context: Any) -> Any:
        self.server.record("CreateJob", context, request)
        fails_after = self.server.next_failure("CreateJob")
        if fails_after and not fails_after.after_events:
            await self.server.abort(context, fails_after)
        if request.validate_only:
            return jobs_pb2.Job(plan=self.server.plan, options=request.options)
        job_id = f"01J{hashlib.sha256(request.request_id.encode()).hexdigest().upper()[:23]}"
        payload = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        if job_id in self.kept and self.kept[job_id].payload != payload:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another payload under this request_id")
        if job_id not in self.kept:
            job = jobs_pb2.Job(id=job_id, request_id=request.request_id, options=request.options)
            job.labels.update(request.options.labels)
            job.plan.CopyFrom(self.server.plan)
            job.create_time.FromSeconds(1_700_000_000 + len(self.kept))
            if request.callback_url:
                job.callback.url = request.callback_url
                job.callback.state = jobs_pb2.CALLBACK_STATE_PENDING
            self.kept[job_id] = Kept(job, payload)
            self.move(job_id, QUEUED)
            if self.at_once:
                self.run(job_id, SUCCEEDED if self.error is None else FAILED)
        if fails_after:  # recorded, and then the answer is lost
            await self.server.abort(context, fails_after)
        if request.HasField("wait"):
            for _ in range(round(request.wait.ToTimedelta().total_seconds() * 100)):
                if self.kept[job_id].job.state in FINAL:
                    break
                await asyncio.sleep(0.01)
        return self.kept[job_id].job

    async def GetJob(self, request: Any, context: Any) -> Any:
        self.server.record("GetJob", context, request)
        return (await self._find(request.job_id, context)).job

    async def ListJobs(self, request: Any, context: Any) -> Any:
        call = self.server.record("ListJobs", context)
        call.request = jobs_pb2.ListJobsRequest.FromString(request.SerializeToString())
        found = [kept.job for kept in reversed(self.kept.values())]
        found = [job for job in found if not request.states or job.state in request.states]
        wanted = [label.partition("=")[::2] for label in request.labels]
        found = [job for job in found if all(job.labels.get(key) == value for key, value in wanted)]
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 50, 3)  # fewer may come
        return jobs_pb2.ListJobsResponse(
            jobs=found[start:end], next_page_token=str(end) if end < len(found) else ""
        )

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        call = self.server.record("WatchJob", context, request)
        kept = await self._find(request.job_id, context)
        cut = self.cuts.popleft() if self.cuts else None
        end = self.clean_ends.popleft() if self.clean_ends else None
        sent = 0
        number = request.after_event_number
        with self.server.noting_cancellation(call):
            while True:
                for event in [event for event in kept.events if event.number > number]:
                    if sent == cut:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                    if sent == end:
                        return
                    yield event
                    number, sent = event.number, sent + 1
                if kept.job.state in FINAL:
                    return
                await asyncio.sleep(0.01)

    async def StreamTiles(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.server.record("StreamTiles", context, request)
        kept = await self._find(request.job_id, context)
        cut = self.cuts.popleft() if self.cuts else None
        start = request.after_sequence + 1 if request.HasField("after_sequence") else 0
        for sent, sequence in enumerate(range(start, kept.tiles)):
            if sent == cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield result_pb2.Tile(sequence=sequence, y=sequence, width=16, height=1, data=b"tile")

    async def CancelJob(self, request: Any, context: Any) -> Any:
        self.server.record("CancelJob", context, request)
        kept = await self._find(request.job_id, context)
        if kept.job.state not in FINAL:
            self.move(request.job_id, CANCELLED)
        return kept.job

    async def DeleteJob(self, request: Any, context: Any) -> Any:
        self.server.record("DeleteJob", context, request)
        kept = await self._find(request.job_id, context)
        if kept.job.state not in FINAL:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "cancel it first")
        del self.kept[request.job_id]
        return empty_pb2.Empty()

    async def _find(self, job_id: str, context: Any) -> Kept:
        if job_id not in self.kept:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no job {job_id}")
        return self.kept[job_id]
