"""Ending what talks to NATS.

Up to Python 3.11 `asyncio.wait_for`, which nats-py waits with, forgets a cancellation that comes in the same
moment as what it waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

_AGAIN_SECONDS = 0.5


async def heeding_cancellation(work: Awaitable[_T]) -> _T:
    """What `work` gives; CancelledError where it was cancelled and has forgotten that."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


async def within(seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` gives; TimeoutError where it takes longer. `work` has ended in any case."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        await cancel_for_certain(task)
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def cancel_for_certain(task: asyncio.Task[_T]) -> None:
    """Cancel it, and return when it has ended; for work of which not all heeds cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
