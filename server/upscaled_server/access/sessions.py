"""Which calls run with which key, so that they end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from upscaled_server.errors import Unauthenticated


@dataclass(eq=False, slots=True)
class _Session:
    task: asyncio.Task[object] | None
    ended: bool = False


class Sessions:
    """The running calls of every key."""

    def __init__(self) -> None:
        self._of_key: dict[str, set[_Session]] = {}

    @contextmanager
    def entered(self, key_id: str) -> Iterator[None]:
        """Around a call made with a key. Raises `Unauthenticated` inside it when the key ends."""
        session = _Session(asyncio.current_task())
        sessions = self._of_key.setdefault(key_id, set())
        sessions.add(session)
        try:
            yield
        except asyncio.CancelledError:
            if not session.ended or session.task is None or session.task.uncancel() > 0:
                raise  # the caller left, or the server stops
            raise Unauthenticated("the key was revoked during the call", key=key_id) from None
        finally:
            sessions.discard(session)
            if not sessions and self._of_key.get(key_id) is sessions:
                del self._of_key[key_id]

    def end(self, key_id: str) -> None:
        """End the calls of a key."""
        for session in self._of_key.get(key_id, ()):
            if session.task is not None and not session.ended:
                session.ended = True
                session.task.cancel()
