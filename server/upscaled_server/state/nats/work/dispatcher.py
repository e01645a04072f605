"""Gives items to those who wait for one, one after the other, in the order that is fair."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.nats.work.fairness import FairLanes
from upscaled_server.state.nats.work.item import item_of
from upscaled_server.state.nats.work.lane import Lane
from upscaled_server.state.nats.work.lease import Lease
from upscaled_server.state.nats.work.pulls import ANSWER_SECONDS, Delivery, Pulls, give_back
from upscaled_server.state.nats.work.stream import WorkStream

_LOG = logging.getLogger(__name__)


class Dispatcher:
    """`start` it, `aclose` it. `unanswered` is called where a lane gave no answer."""

    def __init__(
        self,
        connection: Connection,
        stream: WorkStream,
        *,
        unanswered: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held: set[Lease] = set()
        """What this replica has."""
        self._connection = connection
        self._stream = stream
        self._unanswered = unanswered
        self._clock = clock
        self._pulls = Pulls(connection, stream.stream, give_back, clock)
        self._lanes = FairLanes()
        self._waiting: deque[asyncio.Future[Lease | None]] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="nats dispatcher")

    def close(self) -> None:
        """Who waits gets None; an item that is under way is given back."""
        self._closed = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
        self._changed.set()

    async def aclose(self) -> None:
        """Items that are still held come again after their leases."""
        self.close()
        if self._task is not None:
            if self._pulls.asking:  # what it brings is given back, and need not wait for the end of a lease
                await asyncio.wait([self._task], timeout=ANSWER_SECONDS)
            await cancel_for_certain(self._task)
        await self._pulls.aclose()
        if self._returning:
            await asyncio.wait(self._returning)
        for lease in list(self.held):
            await lease.drop()

    async def take(self) -> Lease | None:
        """The next item; None once this is closed."""
        if self._closed:
            return None
        waiter: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._changed.set()
        try:
            return await waiter
        except asyncio.CancelledError:
            # It may have been given something in the same moment.
            lease = waiter.result() if waiter.done() and not waiter.cancelled() else None
            if lease is not None:
                self._return(lease)
            with suppress(ValueError):
                self._waiting.remove(waiter)
            raise

    def stored(self, lane: Lane) -> None:
        """Something was put there just now."""
        self._lanes.stored(lane, self._clock())
        self._changed.set()

    def perhaps(self, lane: Lane) -> None:
        """Something lies there, which may be worked on."""
        self._lanes.perhaps(lane, self._clock())
        self._changed.set()

    async def _run(self) -> None:
        while not self._closed:
            self._changed.clear()
            self._forget_who_left()
            lane = self._lanes.next(self._clock()) if self._waiting else None
            if lane is None:
                await self._until_changed()
                continue
            await self._connection.until_up()
            try:
                delivery = await self._pulls.pull(lane.consumer)
            except Unavailable as error:
                _LOG.debug("%s", error.message)
                self._lanes.unanswered(lane, self._clock())
                self._unanswered()
            else:
                await self._give(lane, delivery)

    async def _until_changed(self) -> None:
        """Or until a lane is to be looked at again."""
        at = self._lanes.next_at() if self._waiting else None
        with suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                await self._changed.wait()

    def _forget_who_left(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()

    async def _give(self, lane: Lane, delivery: Delivery | None) -> None:
        if delivery is None:
            self._lanes.nothing(lane, self._clock())
            return
        self._forget_who_left()
        if not self._waiting:
            await give_back(delivery.message)
            return
        message = delivery.message
        item = item_of(lane, message.metadata.sequence.stream, message.headers, message.data)
        self._lanes.taken(lane, item.cost)
        lease = Lease(
            item,
            message,
            self._connection,
            self._stream.lease_seconds,
            since=delivery.since,
            ended=self.held.discard,
            clock=self._clock,
        )
        self.held.add(lease)
        self._waiting.popleft().set_result(lease)

    def _return(self, lease: Lease) -> None:
        task = asyncio.create_task(lease.again(0), name="nats lease returned")
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
