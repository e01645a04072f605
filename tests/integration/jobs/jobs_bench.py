"""The whole service over a real store and real files, with images that a test makes come true or fail."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.api.statuses import to_message
from upscaled_server.errors import NotFound
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.source_kinds import InputId, OutputId, Url
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.build import build_jobs
from upscaled_server.jobs.job import Job, JobSource, Origin
from upscaled_server.jobs.payload import NewJob
from upscaled_server.jobs.ports import Helpers
from upscaled_server.jobs.service import Jobs
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.events import Chunk, Done, Event, Plan, Progress, Stage, Tile
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Bytes, Options, Request, TileEncoding
from upscaled_server.shared_state import open_state
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings

ANNA, BEN = Caller("anna"), Caller("ben")


@dataclass
class Clock:
    """Seconds since 1970; goes by itself, and by leaps where a test makes it."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Images:
    """Stands for the pipeline: gives every image back as it came, in two chunks and as many tiles.

    `before` is awaited in every run with the request and the number of the attempt; what it raises fails it.
    """

    before: Callable[[Request, int], object] = lambda _request, _attempt: None
    attempts: dict[str, int] = field(default_factory=dict)
    began: list[str] = field(default_factory=list)
    looked: int = 0

    async def has_begun(self, count: int) -> bool:
        return len(self.began) >= count

    async def run(
        self,
        request: Request,
        deadline: Deadline,  # noqa: ARG002 - the shape of the pipeline
    ) -> AsyncGenerator[Event, None]:
        assert isinstance(request.source, Bytes)
        data = request.source.data
        plan = _plan(request.options, data)
        if request.validate_only:
            self.looked += 1
            yield plan
            yield _done(plan, request.options, data)
            return
        self.attempts[request.ledger_id] = self.attempts.get(request.ledger_id, 0) + 1
        self.began.append(request.ledger_id)
        yield plan
        yield Progress(Stage.INFER, 0.0, 0, 2)
        half = len(data) // 2
        for number, part in enumerate((data[:half], data[half:])):
            if request.options.tiles is not None:
                yield Tile(number, 0, number, 1, 1, TileEncoding.PNG, part)
            if not request.options.omit_file:
                yield Chunk(number * half, part)
        outcome = self.before(request, self.attempts[request.ledger_id])
        if asyncio.iscoroutine(outcome):
            await outcome
        if request.handed_over is not None:
            await request.handed_over()
        yield _done(plan, request.options, data)


@dataclass
class Receivers:
    """Whom the service would tell."""

    told: list[str] = field(default_factory=list)

    def check(self, url: str) -> None:
        pass

    async def enqueue(self, job: Job) -> None:
        self.told.append(job.id)


@dataclass
class Elsewhere:
    """Images by URL; `asked` counts."""

    images: dict[str, bytes] = field(default_factory=dict)
    asked: int = 0

    async def open(self, source: Url | InputId | OutputId, caller: Caller, **_limits: float) -> bytes:
        assert caller.name
        self.asked += 1
        name = source.url if isinstance(source, Url) else source.id
        if name not in self.images:
            raise NotFound("image", name)
        return self.images[name]


@dataclass
class Bench:
    """One life of the service in a folder. `open_bench` again: the next one."""

    folder: Path
    jobs: Jobs
    book: Book
    files: StoredFiles
    blobs: BlobStore
    images: Images
    receivers: Receivers
    elsewhere: Elsewhere
    clock: Clock

    async def output_of(self, job: Job) -> bytes:
        record = await self.files.output(job.caller, job.output_id)
        return b"".join([piece async for piece in self.files.read_output(record)])

    async def settled(self) -> None:
        """Wait until nothing is left to be done for jobs that have ended."""
        await until(self.nothing_lives)

    async def nothing_lives(self) -> bool:
        return not await self.book.all_live()

    def left_over(self) -> list[str]:
        """Files that are kept for jobs, but for outputs."""
        blobs = self.folder / "blobs"
        names = [str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file()]
        return sorted(name for name in names if not name.startswith("outputs/"))


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.005)


def wanted(
    image: bytes = b"an image", caller: Caller = ANNA, url: str = "", request_id: str = "", **options: object
) -> NewJob:
    settings = Options(labels={"of": caller.name})
    return NewJob(
        caller=caller,
        source=JobSource(Origin.URL, url, url) if url else JobSource(Origin.INLINE),
        options=replace(settings, **options),  # type: ignore[arg-type]
        image=None if url else Bytes(image),
        request_id=request_id,
    )


@asynccontextmanager
async def open_bench(
    folder: Path,
    *,
    images: Images | None = None,
    elsewhere: Elsewhere | None = None,
    clock: Clock | None = None,
    callers: tuple[Caller, ...] = (ANNA, BEN),
    start: bool = True,
    max_stored_bytes: int = 1 << 30,
    cluster: ClusterSettings | None = None,
    **settings: float,
) -> AsyncIterator[Bench]:
    """`cluster`: several may be open at a time, in one folder of files."""
    images, elsewhere = images or Images(), elsewhere or Elsewhere()
    clock, receivers = clock or Clock(), Receivers()
    keeping, limits = KeepingSettings(), LimitSettings()
    known = {each.name: each for each in (*callers, ANONYMOUS)}
    async with AsyncExitStack() as stack:
        storage = StorageSettings(
            min_free_bytes=0,
            max_stored_bytes=max_stored_bytes,
            blobs_url="" if cluster is None else f"file://{folder}/blobs",
        )
        state = await stack.enter_async_context(open_state(folder, cluster or ClusterSettings(), storage))
        store = state.store
        blobs = await BlobStore.open(storage, folder)
        files = StoredFiles(
            store,
            blobs,
            keeping,
            max_input_bytes=limits.max_input_bytes,
            upload_idle_seconds=5.0,
            memory=UploadMemory(1 << 20),
        )
        book = Book(store)
        jobs = build_jobs(
            book,
            blobs=blobs,
            images=images,
            sources=elsewhere,
            outputs=files,
            callbacks=receivers,
            helpers=Helpers(
                known.get,
                lambda _options, _caller: None,
                _no_check,
                lambda error: to_message(error).SerializeToString(),
            ),
            settings=JobSettings(**settings),  # type: ignore[arg-type]
            keeping=keeping,
            limits=limits,
            sharing=state.sharing(lambda: 0.0),
            clock=clock,
        )
        if start:
            await jobs.start()
        stack.push_async_callback(jobs.stop)
        yield Bench(folder, jobs, book, files, blobs, images, receivers, elsewhere, clock)


OpenBench: TypeAlias = Callable[..., AbstractAsyncContextManager[Bench]]
"""`open_bench`, of a server by itself or of one of a cluster."""


async def _no_check(_source: JobSource, _caller: Caller) -> None:
    pass


def _plan(options: Options, data: bytes) -> Plan:
    return Plan(
        input_width=1,
        input_height=1,
        output_width=1,
        output_height=2,
        bit_depth=8,
        channels=3,
        content_type="image/png",
        file_name=f"{options.file_name}.png",
        tile_count=0 if options.tiles is None else 2,
        tile_columns=1,
        tile_size=64,
        recomputed_share=0.0,
        estimated_seconds=0.1,
        queue_position=0,
        max_output_bytes=len(data),
    )


def _done(plan: Plan, options: Options, data: bytes) -> Done:
    return Done(
        plan=plan,
        settings=options,
        seconds={Stage.INFER: 0.1},
        total_seconds=0.1,
        provenance=None,
        size_bytes=None if options.omit_file else len(data),
        sha256=None if options.omit_file else hashlib.sha256(data).hexdigest(),
    )
