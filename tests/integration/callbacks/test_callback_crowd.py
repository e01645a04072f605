"""One dead receiver does not slow the others."""

from __future__ import annotations

import asyncio

from tests.integration.callbacks.post_office import Post
from tests.integration.callbacks.receiver import Receiver

from upscaled_server.jobs.job import CallbackState

DEAD, ALIVE = 500, 500


async def test_five_hundred_are_told_while_five_hundred_others_get_no_answer(
    post: Post, receiver: Receiver
) -> None:
    dead = Receiver(answer=None)
    await dead.start()
    post.settings |= {
        "callback_allow": f"127.0.0.0/8:{receiver.port},127.0.0.0/8:{dead.port}",
        "callback_seconds": 300.0,
        "max_concurrent_callbacks_per_caller": 8,
    }
    sender = await post.start()
    jobs = [await post.ended_job(dead.url(), "mallory") for _ in range(DEAD)]
    jobs += [await post.ended_job(receiver.url(), f"caller-{number % 10}") for number in range(ALIVE)]
    await asyncio.gather(*(sender.enqueue(job) for job in jobs))
    await post.clock.until(lambda: sender.counts.delivered == ALIVE)
    assert len(receiver.calls) == ALIVE
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == ALIVE
    assert (dead.most, len(dead.calls)) == (4, 4)
    assert receiver.most <= 4
    assert sender.pending == DEAD
    assert len(await post.noted()) == DEAD
    assert (await post.callback_of(jobs[-1])).state is CallbackState.DELIVERED
    await sender.aclose()
    post.senders.clear()
    await dead.stop()
