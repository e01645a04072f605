"""Events and tiles of one job, from where a reader was to the job's end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.jobs.board import Board, Place
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import EVENTS_PER_ATTEMPT, Job, State
from upscaled_server.jobs.places import Files, tile_path, unpack_tile
from upscaled_server.pipeline.events import Progress, Tile


@dataclass(frozen=True, slots=True)
class JobEvent:
    """`what` is the job as it was after a change of state, or how far the work was."""

    number: int
    time: float
    what: Job | Progress


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job as it is now, and where the work stands while it runs."""

    job: Job
    progress: Progress | None = None
    last_event: int = 0


@dataclass(frozen=True, slots=True)
class Following:
    book: Book
    board: Board
    files: Files

    async def now(self, caller: str, job_id: str) -> Snapshot:
        """Raises `NotFound`."""
        job = await self.book.get(caller, job_id)
        return _snapshot(job, await self.board.look(job) if job.state is State.RUNNING else None)

    def shown(self, job: Job) -> Snapshot:
        """A job that was read, with what is known here of it beside."""
        return _snapshot(job, self.board.get(job.id))

    async def events(self, caller: str, job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        """Raises `NotFound`, `Unavailable` when the server stops."""
        last = after
        async with aclosing(self._looks(caller, job_id)) as looks:
            async for job, place in looks:
                for change in job.changes:
                    if change.number > last:
                        last = change.number
                        yield JobEvent(change.number, change.time, job.as_of(change))
                if place is None or place.progress is None:
                    continue
                if last < place.progress_number and _belongs(place, job):
                    last = place.progress_number
                    yield JobEvent(last, place.progress_time, place.progress)

    async def tiles(self, caller: str, job_id: str, after: int | None) -> AsyncGenerator[Tile, None]:
        """Raises `NotFound`, `FailedPrecondition` where there are none, `Unavailable` when the server
        stops."""
        following = 0 if after is None else after + 1
        async with aclosing(self._looks(caller, job_id)) as looks:
            async for job, place in looks:
                _check_tiles(job)
                stored = job.tiles if place is None else place.tiles
                while following < stored:
                    yield unpack_tile(await self.files.read(tile_path(job_id, following)))
                    following += 1

    async def end(self, caller: str, job_id: str) -> Job:
        """The job when it has ended. Raises as `events` does."""
        async with aclosing(self._looks(caller, job_id)) as looks:
            return [job async for job, _ in looks][-1]

    async def _looks(self, caller: str, job_id: str) -> AsyncGenerator[tuple[Job, Place | None], None]:
        """The job as it is now, and again after all news of it, with how far the work is; without that, and
        for the last time, when it has ended."""
        for _ in range(2):  # its place may be made just after its record
            async with self.board.following(caller, job_id) as place:
                while True:
                    seen = 0 if place is None else place.version
                    job = await self.book.get(caller, job_id)
                    if job.state.final:
                        yield job, None
                        return
                    if place is None:
                        break
                    yield job, place
                    await self._news(place, seen)
        raise Unavailable(f"job {job.id} is not being worked on; the server's log has the particulars")

    async def _news(self, place: Place, seen: int) -> None:
        if not self.board.closed:
            await place.news(seen)
        if self.board.closed:
            raise Unavailable("the server is stopping; follow the job again from where you are")


def _snapshot(job: Job, place: Place | None) -> Snapshot:
    if place is None or job.state is not State.RUNNING or place.job.attempts != job.attempts:
        return Snapshot(job, None, job.last_event)
    job = replace(job, plan=place.plan or job.plan)
    return Snapshot(job, place.progress, max(job.last_event, place.progress_number))


def _belongs(place: Place, job: Job) -> bool:
    """Whether the progress is that of the attempt that the reader knows of: else it would come before the
    change of state that began it, which the reader would then take for one that it has had."""
    return place.progress_number // EVENTS_PER_ATTEMPT == job.attempts and job.state is State.RUNNING


def _check_tiles(job: Job) -> None:
    if job.options.tiles is None:
        raise FailedPrecondition("the job was created without tiles; set options.tiles", job=job.id)
    if job.state in (State.FAILED, State.CANCELLED):
        raise FailedPrecondition(f"the job {job.state.value}, and its tiles are deleted", job=job.id)
