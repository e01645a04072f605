"""Lets a producer of rows work ahead of its consumer, by a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class _End(Generic[T]):
    """How the producer ended: normally, or with an error that belongs to the consumer."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@asynccontextmanager
async def ahead(source: AsyncGenerator[T, None], depth: int = 1) -> AsyncIterator[AsyncIterator[T]]:
    """Run `source` in a task of its own, at most `depth` items ahead of who iterates over the result.

    Errors of the source are raised where it is consumed. Leaving the context cancels the task and waits
    for its end, so nothing of the source runs on behind a request that is over.
    """
    queue: asyncio.Queue[T | _End[T]] = asyncio.Queue(depth)

    async def produce() -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put(item)
        except Exception as error:  # whoever consumes raises it
            await queue.put(_End(error))
        else:
            await queue.put(_End())

    async def consume() -> AsyncIterator[T]:
        while True:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is None:
                return
            else:
                raise item.error

    task = asyncio.create_task(produce())
    try:
        yield consume()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
