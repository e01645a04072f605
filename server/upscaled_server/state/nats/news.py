"""News over plain NATS, which keeps nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.tasks import cancel_for_certain, heeding_cancellation
from upscaled_server.state.news import Listener

_LOG = logging.getLogger(__name__)

_ASK_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.5
_FAILURES = (nats.errors.Error, OSError, TimeoutError)

_Heard = Callable[[Msg], Awaitable[None]]


class _Interest:
    """One subscription, made anew where its client was given up."""

    def __init__(self, subject: str, heard: _Heard) -> None:
        self.subject = subject
        self._heard = heard
        self._client: Client | None = None
        self._subscription: Subscription | None = None

    async def bring_to(self, client: Client) -> None:
        """A client that connects again by itself takes its subscriptions along."""
        if self._client is client:
            return
        self._subscription = await client.subscribe(self.subject, cb=self._heard)
        self._client = client

    async def end(self) -> None:
        if self._subscription is not None:
            with suppress(*_FAILURES):
                await self._subscription.unsubscribe()


class NatsNews:
    """`News` among all servers of a cluster. `open` it."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._interests: set[_Interest] = set()
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: ClusterSettings) -> NatsNews:
        """Raises `Unavailable`, `FailedPrecondition` as connections do."""
        news = cls(await Connection.open(settings), settings.cluster_prefix)
        news._renewing = asyncio.create_task(news._renew(), name="nats news")
        return news

    async def aclose(self) -> None:
        if self._renewing is not None:
            await cancel_for_certain(self._renewing)
        await self._connection.aclose()

    async def tell(self, topic: str, data: bytes) -> None:
        client = self._connection.client
        if client.is_connected:
            with suppress(*_FAILURES):
                await client.publish(f"{self._prefix}-news.{topic}", data)

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[Listener]:
        listener = Listener()

        async def heard(message: Msg) -> None:
            listener.put(message.data)

        async with self._interested(f"{self._prefix}-news.{topic}", heard):
            yield listener

    @asynccontextmanager
    async def answering(self, topic: str, answer: Callable[[], bytes]) -> AsyncIterator[None]:
        async def asked(message: Msg) -> None:
            with suppress(*_FAILURES):
                await message.respond(answer())

        async with self._interested(f"{self._prefix}-ask.{topic}", asked):
            yield

    async def ask(self, topic: str) -> bytes | None:
        client = self._connection.client
        if not client.is_connected:
            return None
        try:
            asked = client.request(f"{self._prefix}-ask.{topic}", timeout=_ASK_SECONDS)
            return (await heeding_cancellation(asked)).data
        except _FAILURES:
            return None

    @asynccontextmanager
    async def _interested(self, subject: str, heard: _Heard) -> AsyncIterator[None]:
        interest = _Interest(subject, heard)
        self._interests.add(interest)
        try:
            await self._bring(interest)
            yield
        finally:
            self._interests.discard(interest)
            await interest.end()

    async def _bring(self, interest: _Interest) -> None:
        try:
            await interest.bring_to(self._connection.client)
        except _FAILURES as error:
            _LOG.debug("%s is subscribed to later: %s", interest.subject, error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._connection.client.is_connected:
                for interest in list(self._interests):
                    await self._bring(interest)
