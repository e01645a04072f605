"""The queue of a server among others: a stream of work that all of them take from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from upscaled_server.access.caller import Priority
from upscaled_server.jobs.job import Job

# Where the image has not been looked at. Nothing but its relation to others matters.
_UNKNOWN_SECONDS: Final = 1.0
_ROOM_AGAIN_SECONDS: Final = 0.05
_RECORD_DELIVERIES: Final = 12
"""A turn that came so often, seconds apart, and found no record will find none."""


class Item(Protocol):
    """One piece of work in the stream, of its `owner`."""

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def cost(self) -> float: ...


class Lease(Protocol):
    """One delivery of an item, which is prolonged until one of the ends."""

    @property
    def item(self) -> Item: ...

    @property
    def deliveries(self) -> int: ...

    @property
    def lost(self) -> asyncio.Event: ...

    async def done(self) -> None: ...

    async def again(self, seconds: float) -> None: ...


class Dead(Protocol):
    """An item that came too often without an end."""

    @property
    def item(self) -> Item: ...

    async def settle(self) -> None: ...


class Stream(Protocol):
    """`state.nats.work.WorkQueue`."""

    @property
    def waiting(self) -> int: ...

    async def put(self, item_id: str, owner: str, *, urgent: bool, cost: float) -> None: ...

    async def take(self) -> Lease | None: ...

    def dead(self) -> AsyncIterator[Dead]: ...

    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class SharedTurn:
    """`patience_seconds` is none: another server may have what is short here."""

    queue: SharedQueue
    lease: Lease
    patience_seconds: float = 0.0

    @property
    def caller(self) -> str:
        return self.lease.item.owner

    @property
    def job_id(self) -> str:
        return self.lease.item.id

    @property
    def lost(self) -> asyncio.Event:
        return self.lease.lost

    @property
    def record_due(self) -> bool:
        return self.lease.deliveries > _RECORD_DELIVERIES

    async def done(self) -> None:
        self.queue.ended(self)
        await self.lease.done()

    async def again(self, seconds: float) -> None:
        self.queue.ended(self)
        await self.lease.again(seconds)


class SharedQueue:
    """Takes as much as the devices here get through in `ahead_seconds`; `pending_seconds` says what they have
    to do already."""

    def __init__(self, stream: Stream, pending_seconds: Callable[[], float], *, ahead_seconds: float) -> None:
        self._stream = stream
        self._pending_seconds = pending_seconds
        self._ahead_seconds = ahead_seconds
        self._turns: set[SharedTurn] = set()
        self._closed = False
        self._one_takes = asyncio.Lock()

    def __len__(self) -> int:
        return self._stream.waiting

    @asynccontextmanager
    async def offered(self, job: Job, weight: float) -> AsyncIterator[None]:
        """Offered first: a turn without a record is noticed, a record without a turn is not."""
        cost = _UNKNOWN_SECONDS if job.plan is None else job.plan.estimated_seconds
        urgent = job.priority is Priority.INTERACTIVE
        await self._stream.put(job.id, job.caller, urgent=urgent, cost=max(0.001, cost) / weight)
        yield

    def withdraw(self, job_id: str) -> None:
        """The turn comes, and is over at once."""

    def close(self) -> None:
        self._closed = True
        self._stream.close()

    async def take(self) -> SharedTurn | None:
        async with self._one_takes:
            while not self._closed and not self._has_room():  # noqa: ASYNC110 - devices tell nobody
                await asyncio.sleep(_ROOM_AGAIN_SECONDS)
            lease = None if self._closed else await self._stream.take()
        if lease is None:
            return None
        turn = SharedTurn(self, lease)
        self._turns.add(turn)
        return turn

    def ended(self, turn: SharedTurn) -> None:
        self._turns.discard(turn)

    def _has_room(self) -> bool:
        """What was just taken has not come to the devices yet."""
        taken = sum(turn.lease.item.cost for turn in self._turns)
        return max(taken, self._pending_seconds()) < self._ahead_seconds
