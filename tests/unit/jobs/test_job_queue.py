"""Whose turn is next."""

from __future__ import annotations

import asyncio

from jobs_tools import queued_job

from upscaled_server.access.caller import Priority
from upscaled_server.jobs.local_queue import LocalQueue


async def _taken(queue: LocalQueue, count: int = 1) -> list[str]:
    turns = [await queue.take() for _ in range(count)]
    return [turn.job_id for turn in turns if turn is not None]


async def test_interactive_jobs_go_before_batch_jobs() -> None:
    queue = LocalQueue()
    batch, interactive = queued_job(), queued_job(priority=Priority.INTERACTIVE)
    queue.put(batch, 1.0)
    queue.put(interactive, 1.0)
    assert await _taken(queue, 2) == [interactive.id, batch.id]


async def test_callers_take_turns_however_many_jobs_one_has() -> None:
    queue = LocalQueue()
    many = [queued_job("anna") for _ in range(50)]
    for job in many:
        queue.put(job, 1.0)
    one = queued_job("ben")
    queue.put(one, 1.0)
    taken = await _taken(queue, 3)
    assert one.id in taken
    assert [each for each in taken if each != one.id] == [many[0].id, many[1].id]


async def test_a_heavier_caller_gets_its_share() -> None:
    queue = LocalQueue()
    for _ in range(30):
        queue.put(queued_job("heavy"), 3.0)
        queue.put(queued_job("light"), 1.0)
    heavy = {job_id for job_id, entry in queue._waiting.items() if entry.caller == "heavy"}
    taken = await _taken(queue, 20)
    assert sum(each in heavy for each in taken) == 15


async def test_what_was_removed_has_no_turn() -> None:
    queue = LocalQueue()
    first, second = queued_job(), queued_job()
    queue.put(first, 1.0)
    queue.put(second, 1.0)
    queue.withdraw(first.id)
    queue.withdraw(first.id)
    assert await _taken(queue) == [second.id]
    assert len(queue) == 0


async def test_taking_waits_for_a_job_and_ends_when_closed() -> None:
    queue = LocalQueue()
    taking = asyncio.create_task(_taken(queue))
    await asyncio.sleep(0)
    job = queued_job()
    queue.put(job, 1.0)
    assert await taking == [job.id]
    taking = asyncio.create_task(_taken(queue))
    await asyncio.sleep(0)
    queue.close()
    assert await taking == []
