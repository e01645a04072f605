"""Asks a lane for one item.

Whoever asks is told at once, also where nothing is there. An answer that comes when nobody expects it any
more may bring an item: that is given back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats.connection import Connection

_REQUEST = b'{"batch":1,"no_wait":true}'
ANSWER_SECONDS = 2.0
_NOTHING = frozenset({"404", "408", "409"})


@dataclass(frozen=True, slots=True)
class Delivery:
    message: Msg
    since: float
    """Before it was handed out: the lease is counted from here."""


class Pulls:
    """For one caller at a time, of one stream. `strayed` is given every message that nobody waited for."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        strayed: Callable[[Msg], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._strayed = strayed
        self._clock = clock
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._number = 0
        self._consumer = ""
        self._answer: asyncio.Future[Msg | None] | None = None

    @property
    def asking(self) -> bool:
        return self._answer is not None

    async def aclose(self) -> None:
        if self._subscription is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._subscription.unsubscribe()

    async def pull(self, consumer: str) -> Delivery | None:
        """None where there is nothing now. Raises `Unavailable` where no answer comes: an item that was
        handed out nevertheless comes again after its lease."""
        try:
            client = await self._listening()
            self._number += 1
            self._consumer = consumer
            self._answer = asyncio.get_running_loop().create_future()
            since = self._clock()
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}",
                _REQUEST,
                reply=f"{self._inbox}.{self._number}",
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                message = await self._answer
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable(
                f"NATS ({self._connection.shown}) does not hand out work of {self._stream}: "
                f"{error or type(error).__name__}"
            ) from None
        finally:
            self._answer = None
        return None if message is None else Delivery(message, since)

    async def _listening(self) -> Client:
        """One inbox for all answers; a new client needs its own."""
        client = self._connection.client
        if client is not self._client:
            self._inbox = client.new_inbox()
            self._subscription = await client.subscribe(f"{self._inbox}.*", cb=self._take)
            self._client = client
        return client

    async def _take(self, message: Msg) -> None:
        answer = self._answer
        status = (message.headers or {}).get("Status")
        if status is not None:
            if answer is None or answer.done() or message.subject != f"{self._inbox}.{self._number}":
                return
            if status in _NOTHING:
                answer.set_result(None)
            else:
                answer.set_exception(nats.errors.NoRespondersError())
        elif answer is None or answer.done() or message.metadata.consumer != self._consumer:
            await self._strayed(message)
        else:
            answer.set_result(message)


async def give_back(message: Msg) -> None:
    """It comes again at once; where NATS cannot be told, after its lease."""
    with suppress(nats.errors.Error, OSError, TimeoutError):
        await message.nak()
