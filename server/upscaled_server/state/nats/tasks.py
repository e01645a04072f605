"""Ending a task that talks to NATS."""

from __future__ import annotations

import asyncio

_AGAIN_SECONDS = 0.5


async def cancel_for_certain(task: asyncio.Task[None]) -> None:
    """Cancel it, and return when it has ended.

    Once may not be enough: up to Python 3.11 `asyncio.wait_for`, which nats-py waits with, forgets a
    cancellation that comes in the same moment as what it waited for.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
