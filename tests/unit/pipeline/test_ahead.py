"""A producer works ahead by a bound, and never outlives its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from upscaled_server.pipeline.ahead import ahead


class _Source:
    def __init__(self, count: int) -> None:
        self.made = 0
        self.closed = False
        self._count = count

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self._count):
                self.made += 1
                yield number
        finally:
            self.closed = True


async def test_items_come_in_order() -> None:
    async with ahead(_Source(5).items()) as items:
        assert [item async for item in items] == [0, 1, 2, 3, 4]


async def test_the_producer_stops_at_the_bound() -> None:
    source = _Source(100)
    async with ahead(source.items(), depth=2) as items:
        assert await anext(items) == 0
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.made <= 5


async def test_an_error_of_the_source_is_raised_after_the_items_before_it() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async with ahead(failing()) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401 - what was seen before the error matters
    assert seen == [1]


async def test_leaving_early_closes_the_source() -> None:
    source = _Source(100)
    async with ahead(source.items()) as items:
        await anext(items)
    assert source.closed


async def test_cancelling_the_consumer_ends_the_source() -> None:
    ended = asyncio.Event()

    async def waiting() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def consume() -> None:
        async with ahead(waiting()) as items:
            async for _ in items:
                pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
