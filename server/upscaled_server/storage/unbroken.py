"""Steps that must not be left half way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")


async def unbroken(step: Coroutine[Any, Any, _T]) -> _T:
    """Run a step to its end, also when whoever waits is cancelled; the cancellation follows then.

    For steps that end by themselves: a thread that writes goes on writing after its waiter was cancelled, and
    a lock around it would be given back too early.
    """
    task = asyncio.create_task(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # it is the task's, and raised below
            break
    if cancelled is not None:
        with suppress(BaseException):
            task.result()
        raise cancelled
    return task.result()
