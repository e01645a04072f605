"""What a worker tells of its device and of itself, beside its answers. See `protocol.py`."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from upscaled_server.engine import counters
from upscaled_server.pool.transport import Message

# A card whose driver does not answer must not keep the worker from saying that it lives.
_CARD_SECONDS = 1.0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def events() -> Message:
    """`{"report": {…}}` with what went wrong since the last answer; nothing where nothing did."""
    taken = counters.take()
    return {"report": taken} if taken else {}


class Vitals:
    """What is told with every heartbeat."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "vitals")
        self._asking: asyncio.Future[int | None] | None = None
        self._card_bytes: int | None = None

    async def tell(self, engine: Any) -> Message:
        """Bytes of memory, processor seconds since the start; of a card that does not answer now what it said
        last."""
        resident = resident_bytes()
        card = await self._ask_card(engine)
        return {
            "resident_bytes": resident,
            "cpu_seconds": time.process_time(),
            "memory_bytes": resident if card is None else card,
        }

    async def _ask_card(self, engine: Any) -> int | None:
        if self._asking is None:
            loop = asyncio.get_running_loop()
            self._asking = loop.run_in_executor(
                self._thread, lambda: getattr(engine, "card_memory_bytes", None)
            )
        done, _ = await asyncio.wait([self._asking], timeout=_CARD_SECONDS)
        if done:
            asked, self._asking = self._asking, None
            if asked.exception() is None:
                self._card_bytes = asked.result()
        return self._card_bytes
