"""News that nobody keeps: of each topic only the last message counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol


class Listener:
    """What is told of one topic. For one reader."""

    def __init__(self) -> None:
        self._newest = b""
        self._some = asyncio.Event()

    def put(self, data: bytes) -> None:
        self._newest = data
        self._some.set()

    async def next(self) -> bytes:
        """The newest message that was not given yet, when there is one."""
        await self._some.wait()
        self._some.clear()
        return self._newest


class News(Protocol):
    """Topics are 1 to 64 characters of `[A-Za-z0-9_-]`. Where nobody can be reached nothing is told, and
    nothing is raised: whoever needs to know more asks again later."""

    async def tell(self, topic: str, data: bytes) -> None:
        """To whoever listens now."""

    def listening(self, topic: str) -> AbstractAsyncContextManager[Listener]:
        """What is told from now on, while the context lasts."""

    def answering(self, topic: str, answer: Callable[[], bytes]) -> AbstractAsyncContextManager[None]:
        """Answer whoever asks about the topic, while the context lasts."""

    async def ask(self, topic: str) -> bytes | None:
        """The answer of whoever gives one, None where nobody does within half a second."""


class LocalNews:
    """Within one process."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._answers: dict[str, Callable[[], bytes]] = {}

    async def tell(self, topic: str, data: bytes) -> None:
        for each in self._listeners.get(topic, ()):
            each.put(data)

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[Listener]:
        listener = Listener()
        listeners = self._listeners.setdefault(topic, set())
        listeners.add(listener)
        try:
            yield listener
        finally:
            listeners.discard(listener)
            if not listeners:
                del self._listeners[topic]

    @asynccontextmanager
    async def answering(self, topic: str, answer: Callable[[], bytes]) -> AsyncIterator[None]:
        self._answers[topic] = answer
        try:
            yield
        finally:
            if self._answers.get(topic) is answer:
                del self._answers[topic]

    async def ask(self, topic: str) -> bytes | None:
        answer = self._answers.get(topic)
        return None if answer is None else answer()
