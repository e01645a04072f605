"""How many fetches there are at once, so that one caller with slow origins does not hold all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """`count` in all, and a quarter of them for one caller."""

    def __init__(self, count: int) -> None:
        self._all = asyncio.Semaphore(count)
        self._each = max(1, count // 4)
        self._of_caller: dict[str, asyncio.Semaphore] = {}
        self._interested: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Waits for a place as long as it takes."""
        own = self._of_caller.setdefault(caller, asyncio.Semaphore(self._each))
        self._interested[caller] = self._interested.get(caller, 0) + 1
        try:
            async with own, self._all:
                yield
        finally:
            self._interested[caller] -= 1
            if not self._interested[caller]:
                del self._interested[caller], self._of_caller[caller]
