"""The queue that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from nats.js import JetStreamContext
from nats.js.errors import APIError

from upscaled_server.errors import InvalidInput, ProcessingFailed, Unavailable
from upscaled_server.state.nats.connection import DUPLICATE_IN_PROCESS, Connection
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.backlog import Backlog
from upscaled_server.state.nats.work.dead import Dead, DeadLetters
from upscaled_server.state.nats.work.dispatcher import Dispatcher
from upscaled_server.state.nats.work.item import Item, headers_of
from upscaled_server.state.nats.work.lane import lane_of
from upscaled_server.state.nats.work.lease import Lease
from upscaled_server.state.nats.work.stream import MAX_LANES, WorkStream

_AGAIN_SECONDS = 0.1


class WorkQueue:
    """`open` it, `aclose` it; any number per name. Each item is given to one of those who take, until it is
    done, given back, or its lease ends: so more than one may have worked on it, and an outcome is stored by
    compare-and-swap.

    Without NATS nothing is published, takers wait, and leases are lost in time; all of it goes on by itself
    when NATS is back.
    """

    def __init__(self, connection: Connection, stream: WorkStream) -> None:
        self._connection = connection
        self._stream = stream
        self._dispatcher = Dispatcher(connection, stream, unanswered=self._suspect)
        self._backlog = Backlog(
            connection,
            stream,
            stored=self._dispatcher.stored,
            perhaps=self._dispatcher.perhaps,
            held=lambda: len(self._dispatcher.held),
        )
        self._dead_letters = DeadLetters(connection, stream)
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: ClusterSettings,
        name: str = "jobs",
        *,
        lease_seconds: float = 30.0,
        max_deliveries: int = 50,
        lanes: int = 16,
    ) -> WorkQueue:
        """The same numbers at every replica. Raises `FailedPrecondition` for what can never work,
        `Unavailable` where NATS does not answer."""
        if not 1 <= lanes <= MAX_LANES:
            raise InvalidInput("lanes is out of range", limit=MAX_LANES, actual=lanes)
        stream = WorkStream(
            settings=settings,
            name=name,
            lease_seconds=lease_seconds,
            max_deliveries=max_deliveries,
            lanes=lanes,
        )
        connection = await Connection.open(settings)
        queue: WorkQueue | None = None
        try:
            async with connection.deadline(f"the queue {stream.stream} could not be opened"):
                await stream.ensure(connection)
            queue = cls(connection, stream)
            await queue._start()
        except BaseException:  # an interrupt too
            await (connection if queue is None else queue).aclose()
            raise
        return queue

    async def _start(self) -> None:
        await self._backlog.start()
        await self._dispatcher.start()

    def close(self) -> None:
        """Nobody gets an item any more: those who wait get None. What is held can still be finished."""
        self._dispatcher.close()
        self._dead_letters.close()

    async def aclose(self) -> None:
        """What is still held comes again, to other replicas, when its lease ends."""
        if self._closed:
            return
        self._closed = True
        self.close()
        await self._dispatcher.aclose()
        await self._backlog.aclose()
        await self._connection.aclose()

    async def publish(self, item: Item) -> None:
        """Return when a majority of the nodes has it. Raises `Unavailable` where NATS cannot be reached or
        does not answer in time, and then the item may be there or not: publish it again. Raises `Overloaded`
        where the queue is full."""
        lane = lane_of(item.owner, item.urgent, self._stream.lanes)
        subject, headers = self._stream.subject(lane), headers_of(item)

        async def publish(js: JetStreamContext) -> None:
            await js.publish(subject, item.data, headers=dict(headers))

        if self._closed:
            raise Unavailable("the queue is closed: the server is stopping")
        async with self._connection.deadline(f"{item.id} could not be put into the queue"):
            while True:
                try:
                    await self._connection.ask(publish)
                    break
                except APIError as error:
                    if error.err_code not in DUPLICATE_IN_PROCESS:
                        raise ProcessingFailed(
                            f"NATS ({self._connection.shown}) refused {item.id}: "
                            f"{error.description or error}",
                            code=error.err_code or error.code or 0,
                        ) from error
                # An earlier attempt, whose answer was lost, is being stored.
                await asyncio.sleep(_AGAIN_SECONDS)
        await self._backlog.tell_stored(lane)

    async def take(self) -> Lease | None:
        """The next item, when there is one; None once this is closed. Any number of tasks may wait."""
        return await self._dispatcher.take()

    def dead(self) -> AsyncIterator[Dead]:
        """Items that were handed out as often as is allowed and not finished; each at least once, to any of
        the replicas that read them. Ends when this is closed. For one reader."""
        return self._dead_letters.read()

    @property
    def shown(self) -> str:
        """The servers of NATS, without passwords."""
        return self._connection.shown

    @property
    def waiting(self) -> int:
        """Items that nobody works on, as known some seconds ago."""
        return self._backlog.waiting

    @property
    def connected(self) -> bool:
        """Whether NATS can be reached, and answered when it was asked last."""
        return self._connection.client.is_connected and self._backlog.answers

    def _suspect(self) -> None:
        self._backlog.suspect()
