"""The moment after which the caller no longer wants the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from upscaled_server.errors import DeadlinePassed


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is a moment of `time.monotonic()`."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        return self.at - time.monotonic()

    def check(self, doing: str) -> None:
        """Raise `DeadlinePassed` if the moment is over; `doing` is the step that would come next."""
        if self.remaining <= 0:
            raise DeadlinePassed(f"the deadline passed before {doing}", before=doing)

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Cancel what runs inside when the moment comes, and raise `DeadlinePassed`."""
        try:
            async with asyncio.timeout(self.remaining) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise DeadlinePassed("the deadline passed while the image was being made") from None
