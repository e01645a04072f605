"""Time as the sender sees it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

# However far away the next try is: the machine's clock may be put right meanwhile.
_LONGEST_SECONDS = 60.0


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set or the time is over, or earlier."""


class SystemClock:
    def now(self) -> float:
        return time.time()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, _LONGEST_SECONDS)):
                await event.wait()
        except TimeoutError:
            pass
