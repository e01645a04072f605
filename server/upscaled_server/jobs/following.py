"""Events and tiles of one job, from where a reader was to the job's end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
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
        return self.shown(await self.book.get(caller, job_id))

    def shown(self, job: Job) -> Snapshot:
        """A job that was read, with what is known of it beside."""
        place = self.board.get(job.id)
        if place is None or job.state is not State.RUNNING or place.job.attempts != job.attempts:
            return Snapshot(job, None, job.last_event)
        job = replace(job, plan=place.plan or job.plan)
        return Snapshot(job, place.progress, max(job.last_event, place.progress_number))

    async def events(self, caller: str, job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        """Raises `NotFound`, `Unavailable` when the server stops."""
        last = after
        while True:
            place = self.board.get(job_id)
            seen = 0 if place is None else place.version
            job = await self.book.get(caller, job_id)
            for change in job.changes:
                if change.number > last:
                    last = change.number
                    yield JobEvent(change.number, change.time, job.as_of(change))
            if job.state.final:
                return
            place = self._still_there(place, job)
            if place.progress is not None and last < place.progress_number and _belongs(place, job):
                last = place.progress_number
                yield JobEvent(last, place.progress_time, place.progress)
            await self._news(place, seen)

    async def tiles(self, caller: str, job_id: str, after: int | None) -> AsyncGenerator[Tile, None]:
        """Raises `NotFound`, `FailedPrecondition` where there are none, `Unavailable` when the server
        stops."""
        following = 0 if after is None else after + 1
        while True:
            place = self.board.get(job_id)
            seen = 0 if place is None else place.version
            job = await self.book.get(caller, job_id)
            _check_tiles(job)
            stored = job.tiles if job.state.final or place is None else place.tiles
            while following < stored:
                yield unpack_tile(await self.files.read(tile_path(job_id, following)))
                following += 1
            if job.state.final:
                return
            await self._news(self._still_there(place, job), seen)

    async def end(self, caller: str, job_id: str) -> Job:
        """The job when it has ended. Raises as `events` does."""
        while True:
            place = self.board.get(job_id)
            seen = 0 if place is None else place.version
            job = await self.book.get(caller, job_id)
            if job.state.final:
                return job
            await self._news(self._still_there(place, job), seen)

    def _still_there(self, place: Place | None, job: Job) -> Place:
        """Of a job that has not ended only a damaged entry leads to no place."""
        if place is None and (place := self.board.get(job.id)) is None:
            raise Unavailable(f"job {job.id} is not being worked on; the server's log has the particulars")
        return place

    async def _news(self, place: Place, seen: int) -> None:
        if not self.board.closed:
            await place.news(seen)
        if self.board.closed:
            raise Unavailable("the server is stopping; follow the job again from where you are")


def _belongs(place: Place, job: Job) -> bool:
    """Whether the progress is that of the attempt that the reader knows of: else it would come before the
    change of state that began it, which the reader would then take for one that it has had."""
    return place.progress_number // EVENTS_PER_ATTEMPT == job.attempts and job.state is State.RUNNING


def _check_tiles(job: Job) -> None:
    if job.options.tiles is None:
        raise FailedPrecondition("the job was created without tiles; set options.tiles", job=job.id)
    if job.state in (State.FAILED, State.CANCELLED):
        raise FailedPrecondition(f"the job {job.state.value}, and its tiles are deleted", job=job.id)
