"""The board of a server by itself: every job that has not ended has a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from upscaled_server.jobs.board import Place
from upscaled_server.jobs.job import Job


class LocalBoard:
    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._of_caller: Counter[str] = Counter()
        self.closed = False

    def __len__(self) -> int:
        return len(self._places)

    def count_of(self, caller: str) -> int:
        return self._of_caller[caller]

    async def image_bytes_of(self, caller: str) -> int:
        jobs = (place.job for place in self._places.values() if place.job.caller == caller)
        return sum(job.input.size_bytes for job in jobs if job.input is not None)

    def add(self, job: Job) -> None:
        self._place_of(job)

    def get(self, job_id: str) -> Place | None:
        return self._places.get(job_id)

    async def look(self, job: Job) -> Place | None:
        return self._places.get(job.id)

    @asynccontextmanager
    async def working(self, job: Job) -> AsyncIterator[Place]:
        yield self._place_of(job)

    @asynccontextmanager
    async def following(self, caller: str, job_id: str) -> AsyncIterator[Place | None]:  # noqa: ARG002
        yield self._places.get(job_id)

    def remove(self, job: Job) -> None:
        place = self._places.pop(job.id, None)
        if place is not None:
            self._of_caller[place.job.caller] -= 1
            if not self._of_caller[place.job.caller]:
                del self._of_caller[place.job.caller]

    def close(self) -> None:
        self.closed = True
        for place in self._places.values():
            place.wake()

    def _place_of(self, job: Job) -> Place:
        place = self._places.get(job.id)
        if place is None:
            place = self._places[job.id] = Place(job)
            self._of_caller[job.caller] += 1
        return place
