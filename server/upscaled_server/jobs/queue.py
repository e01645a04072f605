"""Whose turn is next: interactive before batch, callers by their shares, and of one caller the oldest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from upscaled_server.access.caller import Priority
from upscaled_server.jobs.job import Job
from upscaled_server.pool.scheduler.entry import Entry
from upscaled_server.pool.scheduler.queue import FairQueue
from upscaled_server.pool.scheduler.shares import Shares

_AGING_SECONDS = 600.0
"""A batch job that has waited for this long goes with interactive ones. The devices have an order of their
own; this one is only about which jobs get to ask for them."""

# Where the image has not been looked at. Nothing but its relation to others matters.
_UNKNOWN_SECONDS = 1.0


@dataclass(eq=False, slots=True, kw_only=True)
class Waiting(Entry):
    """A job in the queue. `cost` is its estimated device time."""

    job_id: str


class JobQueue:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: FairQueue[Waiting] = FairQueue(Shares(), _AGING_SECONDS)
        self._waiting: dict[str, Waiting] = {}
        self._some = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, job: Job, weight: float) -> None:
        entry = Waiting(
            job_id=job.id,
            caller=job.caller,
            weight=weight,
            batch=job.priority is Priority.BATCH,
            cost=_UNKNOWN_SECONDS if job.plan is None else job.plan.estimated_seconds,
        )
        self._waiting[job.id] = entry
        self._queue.push(entry, self._clock())
        self._some.set()

    def remove(self, job_id: str) -> bool:
        """Whether it was there."""
        entry = self._waiting.pop(job_id, None)
        return entry is not None and self._queue.remove(entry)

    def close(self) -> None:
        """Nobody gets a turn any more."""
        self._closed = True
        self._some.set()

    async def take(self) -> str | None:
        """The id of the next job, when there is one; None once closed."""
        while not self._closed:
            entry = self._queue.pop(self._clock())
            if entry is not None:
                self._queue.charge(entry)
                del self._waiting[entry.job_id]
                return entry.job_id
            self._some.clear()
            await self._some.wait()
        return None
