"""Items that were tried too often.

NATS hands them out no more, and says so once. Should nobody have kept that news, such as when the nodes were
being started again, a look at the lanes finds them: what lies in the stream behind the point up to which a
lane's consumer is finished, is not handed out any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from upscaled_server.errors import DomainError
from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.work.acks import DONE, acknowledge
from upscaled_server.state.nats.work.item import Item, item_of
from upscaled_server.state.nats.work.lane import Lane
from upscaled_server.state.nats.work.pulls import Pulls, give_back
from upscaled_server.state.nats.work.stream import DEAD_CONSUMER, WorkStream

_LOG = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_AGAIN_SECONDS = 0.5
SCAN_SECONDS = 60.0

# Messages that are gone have several codes.
_GONE = frozenset({10037, 10043, 10057})


class Dead:
    """An item that will not be tried again. It stays until it is settled."""

    def __init__(
        self, item: Item, number: int, notice: Msg | None, connection: Connection, stream: WorkStream
    ) -> None:
        self.item = item
        self._number = number
        self._notice = notice
        self._connection = connection
        self._stream = stream

    async def settle(self) -> None:
        """Remove the item. Where that is not done within a minute it is told again, perhaps to another
        replica. Raises what the connection raises."""
        async with self._connection.deadline(f"{self.item.id} could not be removed"):
            try:
                await self._connection.ask(lambda js: js.delete_msg(self._stream.stream, self._number))
            except APIError as error:
                if error.err_code not in _GONE:
                    raise
            if self._notice is not None:
                await acknowledge(self._connection, self._notice.reply, DONE)


class DeadLetters:
    """For one reader."""

    def __init__(
        self,
        connection: Connection,
        stream: WorkStream,
        *,
        scan_seconds: float = SCAN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._scan_seconds = scan_seconds
        self._clock = clock
        self._closed = asyncio.Event()
        self._suspects: dict[Lane, int] = {}
        """The first message of each lane that was not handed out any more when the lanes were looked at."""

    def close(self) -> None:
        self._closed.set()

    async def read(self) -> AsyncIterator[Dead]:
        """Each at least once, to any of those who read. Ends when this is closed."""
        pulls = Pulls(self._connection, self._stream.dead_stream, give_back, self._clock)
        scan_at = self._clock() + self._scan_seconds
        try:
            while not self._closed.is_set():
                if not self._connection.client.is_connected:
                    await self._pause(_AGAIN_SECONDS)
                    continue
                try:
                    found = await self._told(pulls)
                    if self._clock() >= scan_at:
                        scan_at = self._clock() + self._scan_seconds
                        found += await self._untold()
                except (DomainError, APIError, nats.errors.Error, OSError, TimeoutError) as error:
                    _LOG.debug("items that were tried too often cannot be read: %s", error)
                    found = []
                for dead in found:
                    _LOG.warning("%s was tried too often", dead.item.id)
                    yield dead
                if not found:
                    await self._pause(_LOOK_SECONDS)
        finally:
            await pulls.aclose()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _told(self, pulls: Pulls) -> list[Dead]:
        """The next one that NATS has given up; news of what is gone meanwhile are removed."""
        while True:
            delivery = await pulls.pull(DEAD_CONSUMER)
            if delivery is None:
                return []
            notice = delivery.message
            async with self._connection.deadline("an item that was tried too often could not be read"):
                number = _number(notice)
                message = None if number is None else await self._message(number)
                if message is not None and (dead := self._dead(message, notice)) is not None:
                    return [dead]
                await acknowledge(self._connection, notice.reply, DONE)

    async def _untold(self) -> list[Dead]:
        """Those that are there still, a while after they were seen first: what was finished just now is
        removed a moment later."""
        before, self._suspects = self._suspects, {}
        found: list[Dead] = []
        async with self._connection.deadline("the lanes could not be looked at"):
            for lane in await self._lanes():
                message = await self._given_up(lane)
                if message is None or message.seq is None:
                    continue
                self._suspects[lane] = message.seq
                if before.get(lane) == message.seq and (dead := self._dead(message, None)) is not None:
                    found.append(dead)
        return found

    async def _lanes(self) -> list[Lane]:
        name = self._stream.stream
        info = await self._connection.ask(lambda js: js.stream_info(name, subjects_filter=f"{name}.>"))
        lanes = (self._stream.lane(subject) for subject in info.state.subjects or {})
        return [lane for lane in lanes if lane is not None]

    async def _given_up(self, lane: Lane) -> RawStreamMsg | None:
        name, subject = self._stream.stream, self._stream.subject(lane)

        async def first(js: JetStreamContext) -> RawStreamMsg | None:
            with suppress(NotFoundError):
                return await js.get_msg(name, seq=1, subject=subject, next=True)
            return None

        info = await self._connection.ask(lambda js: js.consumer_info(name, lane.consumer))
        message = await self._connection.ask(first)
        # The floor rises with the next item that is finished; until then that nothing is pending says it.
        finished = info.ack_floor if info.num_ack_pending else info.delivered
        if message is None or finished is None or (message.seq or 0) > finished.stream_seq:
            return None
        return message

    async def _message(self, number: int) -> RawStreamMsg | None:
        async def read(js: JetStreamContext) -> RawStreamMsg | None:
            with suppress(NotFoundError):
                return await js.get_msg(self._stream.stream, seq=number)
            return None

        return await self._connection.ask(read)

    def _dead(self, message: RawStreamMsg, notice: Msg | None) -> Dead | None:
        lane, number = self._stream.lane(message.subject or ""), message.seq or 0
        if lane is None:
            return None
        item = item_of(lane, number, message.headers, message.data or b"")
        return Dead(item, number, notice, self._connection, self._stream)


def _number(notice: Msg) -> int | None:
    """Of the message that it is about."""
    try:
        return int(json.loads(notice.data)["stream_seq"])
    except (ValueError, TypeError, KeyError):
        return None
