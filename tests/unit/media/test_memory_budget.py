"""Sharing a number of bytes: in turn, without loss, whoever is cancelled."""

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


async def test_interactive_ones_go_first_and_batch_ones_leave_room_for_them() -> None:
    budget = MemoryBudget(90)
    batch = [asyncio.create_task(budget.take(20, owner="a", batch=True)) for _ in range(4)]
    await settle()
    assert [each.done() for each in batch] == [True, True, True, False]
    assert (await budget.take(30, owner="b")).amount == 30
    waiting = asyncio.create_task(budget.take(20, owner="c"))
    await settle()
    (await batch[0]).release()
    await settle()
    assert waiting.done()
    assert not batch[3].done()
    # One that needs more than their part has all of that.
    assert (await asyncio.wait_for(MemoryBudget(90).take(1000, batch=True), 5)).amount == 60


async def test_whoever_holds_least_is_next() -> None:
    budget = MemoryBudget(100)
    held = [await budget.take(30, owner="many") for _ in range(3)]
    more = [asyncio.create_task(budget.take(30, owner="many")) for _ in range(3)]
    one = asyncio.create_task(budget.take(30, owner="one"))
    await settle()
    held[0].release()
    await settle()
    assert one.done()
    assert not any(each.done() for each in more)
    held[1].release()
    await settle()
    assert [each.done() for each in more] == [True, False, False]


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_whoever_is_cancelled_when(seed: int) -> None:
    chance = random.Random(seed)
    budget = MemoryBudget(100)

    async def user() -> None:
        share = await budget.take(
            chance.randint(1, 120), owner=chance.choice("abc"), batch=chance.random() < 0.5
        )
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
