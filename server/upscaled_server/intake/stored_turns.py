"""Who of this server's calls may write a file: the one that came last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from upscaled_server.errors import Conflict


def another_goes_on() -> Conflict:
    return Conflict("another call goes on with this file; ask how much of it is there")


@dataclass(slots=True)
class _File:
    last: int = 0
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Turn:
    """The right to write one file, until somebody else takes it."""

    def __init__(self, file: _File) -> None:
        file.last += 1
        self._file = file
        self._number = file.last

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """One step of writing, which nobody else takes at the same time. Raises `Conflict`."""
        async with self._file.lock:
            if self._file.last != self._number:
                raise another_goes_on()
            yield


class Turns:
    """Hands out turns. A server may notice late that a caller is gone, so the caller that comes back does not
    wait for itself: whoever asks has the next step, and whoever had it before has no more."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    @contextmanager
    def take(self, file_id: str) -> Iterator[Turn]:
        with self._using(file_id) as file:
            yield Turn(file)

    @asynccontextmanager
    async def quiet(self, file_id: str) -> AsyncIterator[None]:
        """Between two steps of whoever writes."""
        with self._using(file_id) as file:
            async with file.lock:
                yield

    @contextmanager
    def _using(self, file_id: str) -> Iterator[_File]:
        file = self._files.setdefault(file_id, _File())
        file.users += 1
        try:
            yield file
        finally:
            file.users -= 1
            if not file.users:
                del self._files[file_id]
