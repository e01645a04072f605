"""The queue of a server by itself: interactive before batch, callers by their shares, and of one caller the
oldest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, slots=True)
class LocalTurn:
    """Nobody else can have it, so it is never lost, and waiting elsewhere helps nobody."""

    queue: LocalQueue
    entry: Waiting
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    record_due: bool = True
    patience_seconds: float = 24 * 3600.0

    @property
    def caller(self) -> str:
        return self.entry.caller

    @property
    def job_id(self) -> str:
        return self.entry.job_id

    async def done(self) -> None:
        pass

    async def again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.queue.put_again, replace(self.entry))


class LocalQueue:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: FairQueue[Waiting] = FairQueue(Shares(), _AGING_SECONDS)
        self._waiting: dict[str, Waiting] = {}
        self._some = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def offered(self, job: Job, weight: float) -> AsyncIterator[None]:
        yield
        self.put(job, weight)

    def put(self, job: Job, weight: float) -> None:
        """One that waits already keeps its place."""
        entry = Waiting(
            job_id=job.id,
            caller=job.caller,
            weight=weight,
            batch=job.priority is Priority.BATCH,
            cost=_UNKNOWN_SECONDS if job.plan is None else job.plan.estimated_seconds,
        )
        self.put_again(entry)

    def put_again(self, entry: Waiting) -> None:
        if self._closed or entry.job_id in self._waiting:
            return
        self._waiting[entry.job_id] = entry
        self._queue.push(entry, self._clock())
        self._some.set()

    def withdraw(self, job_id: str) -> None:
        entry = self._waiting.pop(job_id, None)
        if entry is not None:
            self._queue.remove(entry)

    def close(self) -> None:
        self._closed = True
        self._some.set()

    async def take(self) -> LocalTurn | None:
        while not self._closed:
            entry = self._queue.pop(self._clock())
            if entry is not None:
                self._queue.charge(entry)
                del self._waiting[entry.job_id]
                return LocalTurn(self, entry)
            self._some.clear()
            await self._some.wait()
        return None
