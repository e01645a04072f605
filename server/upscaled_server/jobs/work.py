"""One attempt at one job: fetch, run, store."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.errors import DataLoss, NotFound
from upscaled_server.intake.source_kinds import InputId, OutputId, Url
from upscaled_server.jobs.board import Place
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import InputSummary, Job, JobSource, Origin
from upscaled_server.jobs.places import Files, input_path, pack_tile, tile_path
from upscaled_server.jobs.ports import Outputs
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.events import Done, Event, Plan, Progress, Stage, Tile
from upscaled_server.pipeline.fetch import Sources
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Bytes, Delivery, Options, Request
from upscaled_server.pipeline.storing import Images, Target, run_stored
from upscaled_server.telemetry import tracing


@dataclass(frozen=True, slots=True)
class Made:
    """What an attempt that came through has made."""

    done: Done
    input: InputSummary
    has_output: bool
    tiles: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The encoded image, and how long it took to have it."""

    data: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    book: Book
    files: Files
    images: Images
    sources: Sources
    outputs: Outputs
    limits: LimitSettings
    clock: Callable[[], float] = time.time

    async def run(self, job: Job, caller: Caller, place: Place) -> Made:
        """Raises what fetching, the pipeline and storing raise. Nothing half-written is left behind."""
        deadline = Deadline.after(self.limits.max_call_seconds)
        async with deadline.enforced():
            place.show_progress(Progress(Stage.FETCH, 0.0, 0, 0), self.clock())
            began = time.perf_counter()
            with tracing.within(tracing.start("fetch")):
                data = await self._bytes(job, caller, deadline)
            fetched = Fetched(data, time.perf_counter() - began)
            return await self._make(job, caller, place, fetched, deadline)

    async def _make(
        self, job: Job, caller: Caller, place: Place, fetched: Fetched, deadline: Deadline
    ) -> Made:
        summary = await asyncio.to_thread(summary_of, fetched.data)
        request = Request(
            Bytes(fetched.data),
            effective_options(job.options, job.id, job.priority),
            request_id=job.request_id,
            caller=caller,
            ledger_id=job.id,
            fetch_seconds=fetched.seconds,
        )
        done = None
        tiles = 0
        async with aclosing(self._events(job, request, deadline)) as stream:
            async for event in stream:
                match event:
                    case Plan():
                        place.show_plan(event)
                    case Progress():
                        place.show_progress(event, self.clock())
                    case Tile():
                        await self.files.blobs.put(tile_path(job.id, event.sequence), pack_tile(event))
                        tiles = event.sequence + 1
                        place.show_tiles(tiles)
                    case Done():
                        done = event
        if done is None:
            raise RuntimeError("the pipeline ended without Done")
        settings = replace(done.settings, delivery=Delivery.URL)
        return Made(replace(done, settings=settings), summary, not job.options.omit_file, tiles)

    def _events(self, job: Job, request: Request, deadline: Deadline) -> AsyncGenerator[Event, None]:
        if job.options.omit_file:
            return self.images.run(request, deadline)
        # The job's end deletes the output; the time here holds only if that should get lost.
        expires = self.clock() + job.retention + self.limits.max_call_seconds
        return run_stored(self.images, self.outputs, request, deadline, Target(job.id, expires))

    async def _bytes(self, job: Job, caller: Caller, deadline: Deadline) -> bytes:
        """The encoded image. One that was fetched is kept, so that every attempt sees the same bytes."""
        if job.input is not None and job.source.origin in (Origin.INLINE, Origin.URL):
            return await self._kept(job)
        data = await self.sources.open(
            to_source(job.source), caller, max_bytes=self.limits.max_input_bytes, deadline=deadline.at
        )
        if job.source.origin is Origin.URL:
            await self.files.blobs.put(input_path(job.id), data)
            summary = await asyncio.to_thread(summary_of, data)
            await self.book.change(job.caller, job.id, lambda each: replace(each, input=summary))
        return data

    async def _kept(self, job: Job) -> bytes:
        try:
            data = await self.files.read(input_path(job.id))
        except NotFound:
            data = b""
        if job.input is None or len(data) != job.input.size_bytes:
            raise DataLoss(
                "the job's image is not what was stored; create the job again", size_bytes=len(data)
            )
        return data


def effective_options(options: Options, job_id: str, priority: Priority) -> Options:
    """What the pipeline is asked for: the file is named after the job, and comes in chunks."""
    name = options.file_name or f"upscaled-{job_id.lower()}"
    return replace(options, file_name=name, priority=priority, delivery=Delivery.INLINE)


def summary_of(data: bytes) -> InputSummary:
    return InputSummary(len(data), hashlib.sha256(data).hexdigest())


def to_source(source: JobSource) -> Url | InputId | OutputId:
    match source.origin:
        case Origin.URL:
            return Url(source.value)
        case Origin.INPUT:
            return InputId(source.value)
        case Origin.OUTPUT:
            return OutputId(source.value)
        case Origin.INLINE:
            raise DataLoss("the job's image was never stored; create the job again")
