"""Whose step is next."""

from __future__ import annotations

import asyncio

from upscaled_server.pool.turns import Turns


async def test_runs_get_their_steps_in_turn_however_many_one_asks_for() -> None:
    turns, order = Turns(1), []

    async def step(run: str) -> None:
        await turns.wait(run)
        order.append(run)
        await asyncio.sleep(0)
        turns.done()

    await asyncio.gather(*(step(run) for run in ["a", "a", "a", "b", "b", "c"]))

    assert order == ["a", "a", "b", "c", "a", "b"]  # the first found nobody waiting
    assert turns.waiting == 0


async def test_no_more_turns_are_granted_at_once_than_there_are() -> None:
    turns, now, most = Turns(2), 0, 0

    async def step(run: int) -> None:
        nonlocal now, most
        await turns.wait(run)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        turns.done()

    await asyncio.gather(*(step(run) for run in range(20)))

    assert most == 2


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    turns = Turns(1)
    await turns.wait("running")
    waiting = [asyncio.create_task(turns.wait(run)) for run in ("gone", "next")]
    await asyncio.sleep(0)

    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert turns.waiting == 1
    turns.done()

    await asyncio.wait_for(waiting[1], 5)


async def test_a_turn_that_is_granted_and_cancelled_in_one_moment_goes_to_the_next() -> None:
    turns = Turns(1)
    await turns.wait("running")
    waiting = [asyncio.create_task(turns.wait(run)) for run in ("gone", "next")]
    await asyncio.sleep(0)

    turns.done()
    waiting[0].cancel()

    await asyncio.wait_for(waiting[1], 5)
    assert waiting[0].cancelled()
