"""Of several servers that share a store one tells the receivers, whichever made the job end."""

from __future__ import annotations

import asyncio

import pytest
from post_office import Post
from receiver import Receiver
from tests.reached_store import Reached

from upscaled_server.jobs.callbacks.sender import CallbackSender
from upscaled_server.jobs.job import CallbackState
from upscaled_server.state.duty import Elected

SECONDS = 2.0


@pytest.fixture(autouse=True)
def _opened(post: Post, receiver: Receiver) -> None:
    post.settings["callback_allow"] = f"127.0.0.0/8:{receiver.port}"


class Server:
    """One of several: its duty, and how it reaches the store."""

    def __init__(self, post: Post) -> None:
        self.reached = Reached(post.store)
        self.duty = Elected(self.reached, "callbacks", seconds=SECONDS)
        self._post = post
        self.sender: CallbackSender

    async def start(self) -> Server:
        self.sender = await self._post.start(self.reached, duty=self.duty)
        return self

    async def leads(self) -> None:
        async with asyncio.timeout(60):
            while not self.duty.leads:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def two_servers(post: Post) -> tuple[Server, Server]:
    """The first leads."""
    first = await Server(post).start()
    await first.leads()
    return first, await Server(post).start()


async def calls(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(60):
        while len(receiver.calls) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_any_server_notes_is_told_once_by_the_one_that_leads(
    post: Post, receiver: Receiver
) -> None:
    first, second = await two_servers(post)
    jobs = [await post.ended_job(receiver.url()) for _ in range(6)]
    for number, job in enumerate(jobs):
        await (first, second)[number % 2].sender.enqueue(job)
    await post.clock.until(lambda: first.sender.counts.delivered == len(jobs))
    assert sorted(call.job["id"] for call in receiver.calls) == [job.id for job in jobs]
    assert second.sender.pending == 0
    assert await post.noted() == []


async def test_what_waits_for_its_time_goes_on_at_another_server(post: Post, receiver: Receiver) -> None:
    receiver.answer = "500 Down"
    first, second = await two_servers(post)
    job = await post.ended_job(receiver.url())
    await first.sender.enqueue(job)
    await post.clock.until(lambda: first.sender.counts.failed == 1)
    await first.sender.aclose()
    await second.leads()
    receiver.answer = "200 OK"
    post.clock.move(6)
    await post.clock.until(lambda: second.sender.counts.delivered == 1)
    callback = await post.callback_of(job)
    assert (callback.state, callback.attempts) == (CallbackState.DELIVERED, 2)
    assert await post.noted() == []


async def test_a_server_that_is_cut_off_ends_its_tries_before_another_makes_them(
    post: Post, receiver: Receiver
) -> None:
    receiver.answer = None
    first, second = await two_servers(post)
    job = await post.ended_job(receiver.url())
    await second.sender.enqueue(job)
    await calls(receiver, 1)
    receiver.answer = "200 OK"  # to those that follow
    first.reached.become("away")
    await second.leads()
    await post.clock.until(lambda: second.sender.counts.delivered == 1)
    assert receiver.most == 1
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert first.sender.pending == 0
    first.reached.become("near")
    # Whoever lost the duty gets it back like anybody else.
    await second.sender.aclose()
    await first.leads()
    await first.sender.enqueue(await post.ended_job(receiver.url()))
    await post.clock.until(lambda: first.sender.counts.delivered == 1)


async def test_a_try_that_ends_well_while_the_server_stops_is_not_made_again(
    post: Post, receiver: Receiver
) -> None:
    receiver.answer = None
    first, second = await two_servers(post)
    await first.sender.enqueue(await post.ended_job(receiver.url()))
    await calls(receiver, 1)
    receiver.answer = "200 OK"
    await first.sender.enqueue(await post.ended_job(receiver.url()))
    await calls(receiver, 2)
    closing = asyncio.create_task(first.sender.aclose())
    await post.clock.until(lambda: first.sender.counts.delivered == 1)
    # The receiver that answers nothing is asked again by the next server, the other is not.
    await closing
    await second.leads()
    await post.clock.until(lambda: second.sender.counts.delivered == 1)
    assert len(receiver.calls) == 3
    assert await post.noted() == []
