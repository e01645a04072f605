"""Jobs that have not ended, in memory: what stands where, and who waits for news."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from upscaled_server.jobs.job import EVENTS_PER_ATTEMPT, Job, State
from upscaled_server.pipeline.events import Plan, Progress


@dataclass(eq=False, slots=True)
class Place:
    """One job that has not ended. Readers keep the version they have seen and wait for another.

    Nothing is queued for a reader: changes of state are in the job, and of progress only the last counts. So
    a slow reader holds nothing, and misses no change.
    """

    job: Job
    plan: Plan | None = None
    progress: Progress | None = None
    progress_number: int = 0
    progress_time: float = 0.0
    tiles: int = 0
    """Tiles that are stored, of this attempt."""
    version: int = 0
    _waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def show(self, job: Job) -> None:
        """The job as it was just written down."""
        self.job = job
        if job.state is not State.RUNNING:
            self.progress, self.plan = None, None
        self.wake()

    def show_plan(self, plan: Plan) -> None:
        self.plan = plan
        self.wake()

    def show_progress(self, progress: Progress, now: float) -> None:
        first = self.job.attempts * EVENTS_PER_ATTEMPT + 2
        last = (self.job.attempts + 1) * EVENTS_PER_ATTEMPT - 2
        self.progress = progress
        self.progress_number = min(max(first, self.progress_number + 1), last)
        self.progress_time = now
        self.wake()

    def show_tiles(self, count: int) -> None:
        self.tiles = count
        self.wake()

    async def news(self, seen: int) -> None:
        """Return when the version is not `seen`."""
        while self.version == seen:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    def wake(self) -> None:
        """Let readers look again."""
        self.version += 1
        for each in self._waiting:
            if not each.done():
                each.set_result(None)


class Board(Protocol):
    """Places by the job's id, and how many jobs each caller has that have not ended."""

    @property
    def closed(self) -> bool: ...

    def __len__(self) -> int:
        """Jobs that have not ended, of everybody, as known now."""

    def count_of(self, caller: str) -> int:
        """The same of one caller."""

    async def image_bytes_of(self, caller: str) -> int:
        """What the images that came with a caller's jobs have together."""

    def add(self, job: Job) -> None:
        """There is such a job. A second time changes nothing."""

    def get(self, job_id: str) -> Place | None:
        """Where it is shown how far the work is, of a job that this server works on."""

    async def look(self, job: Job) -> Place | None:
        """How far the work on a job is, whoever works on it; None where nobody says."""

    def working(self, job: Job) -> AbstractAsyncContextManager[Place]:
        """Where to show how far the work is, while it is done here."""

    def following(self, caller: str, job_id: str) -> AbstractAsyncContextManager[Place | None]:
        """Where news of a job are heard, whoever works on it. None of one that has ended, or cannot go on.
        Nothing is missed that happens from then on."""

    def remove(self, job: Job) -> None:
        """The job has ended: `show` it first."""

    def close(self) -> None:
        """Wake everybody who waits: the server stops."""
