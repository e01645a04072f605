"""Keeps the keys current: every message of the stream, in order, without its value.

An ephemeral consumer pushes them. A message that is missing, two heartbeats that do not come, or a new
connection: then another consumer goes on behind the last message. Where deletions may have been missed
the keys are read anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from upscaled_server.errors import DomainError, Unavailable
from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.keys import Keys
from upscaled_server.state.nats.messages import is_deletion, swept_through
from upscaled_server.state.nats.subjects import SWEEP, Subjects
from upscaled_server.state.nats.tasks import cancel_for_certain

_LOG = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
_SILENT_SECONDS = 2.5 * HEARTBEAT_SECONDS
_CHECK_SECONDS = 0.2
_AGAIN_SECONDS = 0.2
_INACTIVE_SECONDS = 30.0
"""When NATS removes a consumer that nobody listens to."""

KEEP_DELETIONS_SECONDS = 900.0
"""For how long every deletion leaves its marker in the stream."""


class Feed:
    """`start` it, `aclose` it. `keys` is what is known; `tell` is called with every key that changed."""

    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        tell: Callable[[str], None],
        *,
        keep_deletions_seconds: float = KEEP_DELETIONS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = Keys(clock)
        self.swept_at = clock()
        self.builds = 0
        """How often all keys were read."""
        self._connection = connection
        self._subjects = subjects
        self._tell = tell
        self._keep_seconds = keep_deletions_seconds
        self._clock = clock
        self._built = asyncio.Event()
        self._reading = self.keys
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="nats keys")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel_for_certain(self._task)

    async def built(self) -> None:
        """Return when all keys are known, however many there are. Raises `Unavailable` where none comes for
        as long as an operation may take."""
        while not self._built.is_set():
            position = self._reading.position
            try:
                async with self._connection.deadline("the keys could not be read"):
                    await self._built.wait()
            except Unavailable:
                if self._reading.position == position:
                    raise

    async def current(self) -> Keys:
        """The keys with every change that was acknowledged before the call. Waits within the deadline around
        it."""
        last = await self._last_message()
        while not self._built.is_set() or self.keys.position < last:
            await self._built.wait()
            await self.keys.reached(last)
        return self.keys

    async def _last_message(self) -> int:
        info = await self._connection.ask(lambda js: js.stream_info(self._subjects.stream))
        return int(info.state.last_seq)

    async def _run(self) -> None:
        while True:
            await self._connection.until_up()
            try:
                await self._follow()
            except (DomainError, APIError, nats.errors.Error, OSError, TimeoutError) as error:
                _LOG.warning("the keys of NATS cannot be followed, which is tried again: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self) -> None:
        """Until something is wrong."""
        async with self._connection.deadline("the keys could not be followed"):
            last = await self._last_message()
        if last < self.keys.newest:
            _LOG.error(
                "the bucket %s ends at message %d and has been at %d: it was put back to an earlier state; "
                "all keys are read again",
                self._subjects.bucket,
                last,
                self.keys.newest,
            )
            self._built.clear()
        anew = not self._built.is_set()
        keys = self._reading = Keys(self._clock) if anew else self.keys
        following = _Following(keys, last, floor=last if anew else keys.position, since=self._clock())
        client, times = self._connection.client, self._connection.times
        inbox = client.new_inbox()

        async def take(msg: Msg) -> None:
            await self._take(following, client, msg)

        subscription = await client.subscribe(inbox, cb=take)
        # Named here, so that it can be removed also where the answer to its making was not waited for.
        consumer = uuid4().hex
        try:
            async with self._connection.deadline("the keys could not be followed"):
                await self._connection.ask(
                    lambda js: self._make_consumer(js, consumer, inbox, keys.position + 1)
                )
            _LOG.info("the keys of NATS are followed anew: %s", await self._wrong(following, times))
        finally:
            with suppress(nats.errors.Error, APIError, OSError, TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await subscription.unsubscribe()
                    await client.jetstream().delete_consumer(self._subjects.stream, consumer)

    async def _wrong(self, following: _Following, times: int) -> str:
        """Why the keys cannot be followed any longer, when that is so."""
        following.heard = self._clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_SECONDS):
                    await following.broken.wait()
            if following.problem:
                return following.problem
            if times != self._connection.times:
                return "there is another connection"
            if self._clock() - following.heard > _SILENT_SECONDS:
                return f"nothing was heard for {_SILENT_SECONDS:g} s"

    async def _make_consumer(self, js: JetStreamContext, name: str, inbox: str, first: int) -> None:
        everything = first == 1
        await js.add_consumer(
            self._subjects.stream,
            ConsumerConfig(
                name=name,
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.ALL if everything else DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=None if everything else first,
                ack_policy=AckPolicy.NONE,
                headers_only=True,
                flow_control=True,
                idle_heartbeat=HEARTBEAT_SECONDS,
                inactive_threshold=_INACTIVE_SECONDS,
                max_deliver=1,
                mem_storage=True,
                num_replicas=1,
            ),
        )

    async def _take(self, following: _Following, client: Client, msg: Msg) -> None:
        following.heard = self._clock()
        headers = msg.headers
        if headers is not None and headers.get("Status") == "100":
            await self._take_control(following, client, msg)
        elif not following.problem:
            self._take_change(following, msg)

    async def _take_control(self, following: _Following, client: Client, msg: Msg) -> None:
        """A heartbeat, or the question whether we are still with it, which goes on when that is answered."""
        headers = msg.headers or {}
        answer_to = msg.reply or headers.get("Nats-Consumer-Stalled", "")
        if answer_to:
            await client.publish(answer_to)
        delivered = headers.get("Nats-Last-Consumer")
        if delivered is not None and int(delivered) != following.delivered:
            following.end("messages were missing before a heartbeat")

    def _take_change(self, following: _Following, msg: Msg) -> None:
        number = msg.metadata.sequence
        if number.consumer != following.delivered + 1:
            following.end("messages were missing")
            return
        following.delivered = number.consumer
        keys, key = following.keys, self._subjects.key(msg.subject)
        if key == SWEEP:
            self._take_sweep(following, swept_through(msg.headers))
        if keys.apply(key, number.stream, deleted=is_deletion(msg.headers)) and keys is self.keys:
            self._tell(key)
        keys.advance(number.stream)
        if keys is not self.keys and keys.position >= following.last:
            self._take_over(keys)

    def _take_sweep(self, following: _Following, through: int) -> None:
        self.swept_at = self._clock()
        following.keys.forget_deletions(through)
        # Markers behind where this began were removed, perhaps before they came by.
        if through > following.floor and self._clock() - following.since < self._keep_seconds:
            self._built.clear()
            following.end("deletions were missed")

    def _take_over(self, keys: Keys) -> None:
        """What was read anew takes the place of what was known."""
        before, self.keys = self.keys, keys
        self._built.set()
        self.builds += 1
        for key in before.differing(keys):
            self._tell(key)
        before.give_up()


class _Following:
    """One consumer: how far it was heard, and why it is of no use any more."""

    def __init__(self, keys: Keys, last: int, *, floor: int, since: float) -> None:
        self.keys = keys
        self.last = last
        """The stream's last message when this began."""
        self.floor = floor
        """Deletions up to this message are known, or of no importance."""
        self.since = since
        self.heard = since
        self.delivered = 0
        self.broken = asyncio.Event()
        self.problem = ""

    def end(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.broken.set()
