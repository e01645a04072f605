"""Time that the test moves, so that three days pass in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class FakeClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self._moved = asyncio.Event()
        self._asleep = asyncio.Condition()
        self.wakes_at = 0.0

    def now(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        self.wakes_at = self.time + seconds
        async with self._asleep:
            self._asleep.notify_all()
        while not event.is_set() and self.time < self.wakes_at:
            waits = [asyncio.ensure_future(each.wait()) for each in (event, self._moved)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()

    def move(self, seconds: float) -> None:
        self.time += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until it holds at a moment at which the sender has nothing to do."""
        async with asyncio.timeout(60), self._asleep:
            await self._asleep.wait_for(holds)
