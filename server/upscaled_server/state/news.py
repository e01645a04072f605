"""News that nobody keeps: of each topic only the last message counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Protocol


class Listener:
    """What is told of one topic, for as long as the context lasts. For one reader."""

    def __init__(self, forget: Callable[[Listener], None]) -> None:
        self._forget = forget
        self._newest: bytes | None = None
        self._some = asyncio.Event()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget(self)

    def put(self, data: bytes) -> None:
        self._newest = data
        self._some.set()

    async def next(self) -> bytes:
        """The newest message that was not given yet, when there is one."""
        await self._some.wait()
        self._some.clear()
        data, self._newest = self._newest, None
        return data or b""


class News(Protocol):
    """Topics are 1 to 64 characters of `[A-Za-z0-9_-]`. Where nobody can be reached nothing is told, and
    nothing is raised: whoever needs to know more asks again later."""

    async def tell(self, topic: str, data: bytes) -> None:
        """To whoever listens now."""

    def listen(self, topic: str) -> Listener:
        """What is told from now on."""

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

    def listen(self, topic: str) -> Listener:
        listener = Listener(lambda each: self._forget(topic, each))
        self._listeners.setdefault(topic, set()).add(listener)
        return listener

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

    def _forget(self, topic: str, listener: Listener) -> None:
        listeners = self._listeners[topic]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[topic]
