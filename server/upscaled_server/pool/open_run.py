"""A run as the worker keeps it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from upscaled_server.pool.protocol import RunClosed
from upscaled_server.pool.transport import Message


@dataclass(eq=False, slots=True)
class OpenRun:
    """A run and the lock that keeps its requests in order. `closed` takes effect before the queue does."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    run: Any = None
    rows_fed: int = 0
    steps: int = 0
    closed: bool = False
    step: Future[tuple[NDArray[Any], float]] | None = None

    def check_open(self) -> None:
        """Raises `RunClosed`."""
        if self.closed or self.run is None:
            raise RunClosed("the run is closed")

    def close_soon(self) -> None:
        """Steps that have not begun never will."""
        self.closed = True
        if self.step is not None:
            self.step.cancel()  # without effect once it has begun

    def status(self) -> Message:
        """What the server keeps in step with."""
        return {
            "rows_wanted": self.run.rows_wanted,
            "rows_fed": self.rows_fed,
            "done": self.run.done,
            "state_bytes": self.run.state_bytes,
            "batch_key": self.run.batch_key,
        }
