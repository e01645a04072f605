"""A cancellation is heeded that the work itself forgets."""

from __future__ import annotations

import asyncio

import pytest

from upscaled_server.state.nats.tasks import cancel_for_certain, heeding_cancellation, within


async def _forgets(seconds: float) -> str:
    """As `asyncio.wait_for` does before Python 3.12 when an answer comes together with a cancellation."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return "an answer"
    return "in time"


async def test_what_forgets_a_cancellation_is_cancelled_all_the_same() -> None:
    task = asyncio.create_task(heeding_cancellation(_forgets(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert await heeding_cancellation(_forgets(0)) == "in time"


async def test_a_timeout_around_it_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await heeding_cancellation(_forgets(60))


async def test_ending_for_certain_ends_what_forgets_the_first_time() -> None:
    async def stubborn() -> None:
        await _forgets(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_for_certain(task), 10)
    assert task.cancelled()


async def test_what_takes_too_long_is_ended_and_told_however_often_it_forgets() -> None:
    ended = 0

    async def tries_for_ever() -> None:
        nonlocal ended
        try:
            await _forgets(60)
            await asyncio.sleep(60)
        finally:
            ended += 1

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(within(0.01, tries_for_ever()), 10)
    task = asyncio.create_task(within(60, tries_for_ever()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert ended == 2
    assert await within(60, _forgets(0)) == "in time"
