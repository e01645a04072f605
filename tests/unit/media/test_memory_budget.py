"""Sharing a number of bytes: in order, without loss, whoever is cancelled."""

from __future__ import annotations

import asyncio
import random

import pytest

from upscaled_server.media.codec.admission import MemoryBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_needs_are_granted_in_order_and_a_small_one_behind_a_large_one_waits() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(60)
    large, small = asyncio.create_task(budget.take(80)), asyncio.create_task(budget.take(30))
    await settle()
    assert (large.done(), small.done(), budget.waiting) == (False, False, 2)
    first.release()
    await settle()
    assert (large.done(), small.done()) == (True, False)
    (await large).release()
    (await small).release()
    assert budget.used == 0


async def test_what_is_free_below_a_size_never_waits_and_is_not_counted() -> None:
    budget = MemoryBudget(100, free_below=10)
    await budget.take(100)
    assert (await budget.take(10)).amount == 0
    assert budget.used == 100


async def test_a_need_above_the_total_is_granted_alone() -> None:
    budget = MemoryBudget(100)
    share = await budget.take(1000)
    assert share.amount == 100


async def test_a_share_that_shrinks_lets_others_in_and_is_released_once() -> None:
    budget = MemoryBudget(100)
    share = await budget.take(90)
    waiting = asyncio.create_task(budget.take(50))
    await settle()
    share.shrink(40)
    await settle()
    assert waiting.done()
    share.release()
    share.release()
    (await waiting).release()
    assert budget.used == 0


async def test_a_cancelled_head_of_the_line_lets_the_next_in() -> None:
    budget = MemoryBudget(100)
    await budget.take(50)
    head, behind = asyncio.create_task(budget.take(100)), asyncio.create_task(budget.take(50))
    await settle()
    head.cancel()
    await settle()
    assert behind.done()


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_whoever_is_cancelled_when(seed: int) -> None:
    chance = random.Random(seed)
    budget = MemoryBudget(100)

    async def user() -> None:
        share = await budget.take(chance.randint(1, 120))
        try:
            await asyncio.sleep(chance.random() * 0.005)
            share.shrink(chance.randint(0, 60))
            await asyncio.sleep(chance.random() * 0.005)
        finally:
            share.release()

    tasks = [asyncio.create_task(user()) for _ in range(40)]
    for task in tasks:
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.002)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (budget.used, budget.waiting) == (0, 0)
