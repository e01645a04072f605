"""The jobs that have not ended, in memory: what stands where, and who waits for news."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

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


class Board:
    """Places by the job's id, and how many each caller has."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._of_caller: Counter[str] = Counter()
        self.closed = False

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._places.values()))

    def add(self, job: Job) -> Place:
        place = self._places.get(job.id)
        if place is None:
            place = self._places[job.id] = Place(job)
            self._of_caller[job.caller] += 1
        return place

    def get(self, job_id: str) -> Place | None:
        return self._places.get(job_id)

    def remove(self, job_id: str) -> None:
        """The job has ended: `show` it first."""
        place = self._places.pop(job_id, None)
        if place is not None:
            self._of_caller[place.job.caller] -= 1
            if not self._of_caller[place.job.caller]:
                del self._of_caller[place.job.caller]

    def close(self) -> None:
        """Wake everybody who waits: the server stops."""
        self.closed = True
        for place in self:
            place.wake()

    def count_of(self, caller: str) -> int:
        return self._of_caller[caller]
