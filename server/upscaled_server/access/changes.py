"""One change after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Changes:
    """Makes each change to its end: who asked for it may leave in the middle, and memory must still say what
    the store says."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._going_on: set[asyncio.Task[Any]] = set()

    async def make(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` returns or raises, once all that was begun earlier has ended."""

        async def alone() -> _T:
            async with self._one:
                return await work

        task = asyncio.create_task(alone())
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return await asyncio.shield(task)
