"""Where something may lie: replicas tell each other what they put in, and each looks at the stream every
2 seconds, for what comes again and what it did not hear of.

They also tell how many items they have, as NATS does not say which of those in the stream are worked on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from upscaled_server.errors import DomainError, Unavailable
from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.nats.work.lane import Lane
from upscaled_server.state.nats.work.stream import WorkStream

_LOG = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_CHECK_SECONDS = 0.2
_SILENT_SECONDS = 3.5 * _LOOK_SECONDS
"""When a replica that says nothing counts as gone."""
_MAX_REPLICAS = 10_000


class Backlog:
    """`start` it, `aclose` it. `stored` is called with the lane that somebody put something in just now,
    `perhaps` with every lane that holds something, which may be worked on. `held` says how many items this
    replica has."""

    def __init__(
        self,
        connection: Connection,
        stream: WorkStream,
        *,
        stored: Callable[[Lane], None],
        perhaps: Callable[[Lane], None],
        held: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answers = True
        """Whether NATS answered when it was asked last."""
        self._connection = connection
        self._stream = stream
        self._stored = stored
        self._perhaps = perhaps
        self._held = held
        self._clock = clock
        self._name = uuid4().hex
        self._messages = 0
        self._others: dict[str, tuple[float, int]] = {}
        self._suspicious = False
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items that nobody works on, as known some seconds ago."""
        since = self._clock() - _SILENT_SECONDS
        others = sum(count for heard, count in self._others.values() if heard >= since)
        return max(0, self._messages - others - self._held())

    async def start(self) -> None:
        """Raises `Unavailable` where NATS does not answer."""
        try:
            await self._listen()
            await self._look()
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(
                f"the queue {self._stream.stream} of NATS ({self._connection.shown}) cannot be looked at: "
                f"{error}"
            ) from error
        self._task = asyncio.create_task(self._run(), name="nats backlog")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel_for_certain(self._task)

    async def tell_stored(self, lane: Lane) -> None:
        """Whoever does not hear of it finds it when it looks."""
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._connection.client.publish(self._stream.stored_subject, lane.name.encode())

    def suspect(self) -> None:
        """Something does not answer that should: see that everything is there."""
        self._suspicious = True

    async def _run(self) -> None:
        while True:
            times = self._connection.times
            # Apart from each other, so that replicas do not look at the same moment.
            await self._wait(times, _LOOK_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311
            await self._connection.until_up()
            try:
                if self._suspicious or times != self._connection.times:
                    self._suspicious = False
                    await self._ensure()
                await self._listen()
                await self._look()
            except (DomainError, APIError, nats.errors.Error, OSError, TimeoutError) as error:
                self.answers, self._suspicious = False, True
                _LOG.warning("the queue %s cannot be looked at: %s", self._stream.stream, error)
            else:
                self.answers = True

    async def _wait(self, times: int, seconds: float) -> None:
        """Less where there is another connection."""
        until = self._clock() + seconds
        while self._clock() < until and times == self._connection.times:  # noqa: ASYNC110 - two clocks
            await asyncio.sleep(_CHECK_SECONDS)

    async def _ensure(self) -> None:
        async with self._connection.deadline(f"the queue {self._stream.stream} could not be checked"):
            await self._stream.ensure(self._connection)

    async def _listen(self) -> None:
        """A new client has no subscriptions yet."""
        client = self._connection.client
        if client is not self._client:
            await client.subscribe(self._stream.stored_subject, cb=self._hear_stored)
            await client.subscribe(self._stream.held_subject, cb=self._hear_held)
            self._client = client

    async def _look(self) -> None:
        stream = self._stream
        async with self._connection.deadline(f"the queue {stream.stream} could not be looked at"):
            info = await self._connection.ask(
                lambda js: js.stream_info(stream.stream, subjects_filter=f"{stream.stream}.>")
            )
        self._messages = int(info.state.messages)
        for subject in info.state.subjects or {}:
            lane = stream.lane(subject)
            if lane is not None:
                self._perhaps(lane)
        told = json.dumps({"replica": self._name, "held": self._held()}).encode()
        await self._connection.client.publish(stream.held_subject, told)

    async def _hear_stored(self, message: Msg) -> None:
        lane = self._stream.lane(f"{self._stream.stream}.{message.data.decode('ascii', 'replace')}")
        if lane is not None:
            self._stored(lane)

    async def _hear_held(self, message: Msg) -> None:
        try:
            told = json.loads(message.data)
            name, held = str(told["replica"]), int(told["held"])
        except (ValueError, TypeError, KeyError):
            return
        if name == self._name:
            return
        now = self._clock()
        self._others = {
            each: value for each, value in self._others.items() if value[0] >= now - _SILENT_SECONDS
        }
        if len(self._others) < _MAX_REPLICAS:
            self._others[name] = (now, held)
