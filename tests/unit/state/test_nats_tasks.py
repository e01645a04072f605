"""A task that talks to NATS ends, whatever the libraries make of a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from upscaled_server.state.nats.tasks import cancel_for_certain


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_task_ends_also_where_cancellations_are_lost(lost: int) -> None:
    async def work() -> None:
        for _ in range(lost):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await cancel_for_certain(task)
    assert task.cancelled()


async def test_a_task_that_has_ended_is_left_alone() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await cancel_for_certain(task)
