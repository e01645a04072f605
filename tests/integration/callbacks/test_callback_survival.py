"""Killing the sender loses no callback, wherever it is in its work."""

from __future__ import annotations

import pytest
from tests.integration.callbacks.dying_store import DyingStore, Killed
from tests.integration.callbacks.post_office import Post
from tests.integration.callbacks.receiver import Receiver

from upscaled_server.errors import QuotaExceeded
from upscaled_server.jobs.job import CallbackState
from upscaled_server.state.store import Entry


@pytest.fixture(autouse=True)
def _opened(post: Post, receiver: Receiver) -> None:
    post.settings["callback_allow"] = f"127.0.0.0/8:{receiver.port}"


@pytest.mark.parametrize("changes", range(1, 8))
async def test_whatever_was_the_last_step_the_next_life_tells_the_receiver(
    post: Post, receiver: Receiver, changes: int
) -> None:
    """The first life: noted, a try that fails, noted again, written down, dropped, a try that succeeds."""
    dying = DyingStore(post.store, changes)
    first = await post.start(dying)
    job = await post.ended_job(receiver.url())
    receiver.answer = "500 Down"
    try:
        await first.enqueue(job)
        await post.clock.until(lambda: first.counts.failed == 1 or dying.left == 0)
        receiver.answer = "200 OK"
        post.clock.move(6)
        await post.clock.until(lambda: first.counts.delivered == 1 or dying.left == 0)
    except Killed:
        pass
    await first.aclose()

    receiver.answer = "200 OK"
    second = await post.start()
    await second.enqueue(await post.book.get("anna", job.id))  # as recovery does for what was being ended
    post.clock.move(6)
    await post.clock.until(lambda: second.pending == 0)
    callback = await post.callback_of(job)
    assert callback.state is CallbackState.DELIVERED
    assert 1 <= callback.attempts <= 2
    assert len(receiver.calls) <= 3
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert await post.noted() == []


async def test_the_next_life_waits_for_its_time_and_counts_on(post: Post, receiver: Receiver) -> None:
    receiver.answer = "500 Down"
    first = await post.start()
    job = await post.ended_job(receiver.url())
    await first.enqueue(job)
    for tries in (1, 2, 3):
        await post.clock.until(lambda tries=tries: first.counts.failed == tries)  # type: ignore[misc]
        callback = await post.callback_of(job)
        assert callback.next_attempt is not None
        if tries < 3:
            post.clock.move(callback.next_attempt - post.clock.time + 0.001)
    await first.aclose()
    post.clock.move(60)
    second = await post.start()
    await post.clock.until(lambda: post.clock.wakes_at == pytest.approx(callback.next_attempt, abs=0.002))
    assert len(receiver.calls) == 3
    receiver.answer = "204 No Content"
    post.clock.move(callback.next_attempt - post.clock.time + 0.001)
    await post.clock.until(lambda: second.counts.delivered == 1)
    assert (await post.callback_of(job)).attempts == 4


async def test_a_note_that_the_job_does_not_know_is_dropped(post: Post, receiver: Receiver) -> None:
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.delivered == 1)
    await sender.enqueue(job)  # as it was before: a second time
    await post.clock.until(lambda: sender.pending == 0)
    assert len(receiver.calls) == 1
    assert await post.noted() == []


async def test_a_job_that_is_deleted_is_told_of_no_more(post: Post, receiver: Receiver) -> None:
    receiver.answer = "500 Down"
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.failed == 1)
    await post.book.delete("anna", job.id)
    post.clock.move(6)
    await post.clock.until(lambda: sender.pending == 0)
    assert len(receiver.calls) == 1
    assert await post.noted() == []


class FullStore(DyingStore):
    """A store on a disk without room for as long as `left` is 0."""

    async def get(self, key: str) -> Entry | None:
        return await self._store.get(key)

    def _spend(self) -> None:
        if self.left <= 0:
            raise QuotaExceeded("server", "the disk is full")


async def test_with_a_full_disk_it_is_put_off_and_goes_on_when_there_is_room(
    post: Post, receiver: Receiver
) -> None:
    full = FullStore(post.store, 1)
    sender = await post.start(full)
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    full.left = 0
    await post.clock.until(lambda: len(receiver.calls) == 1 and post.clock.wakes_at == post.clock.time + 30)
    assert (await post.callback_of(job)).state is CallbackState.PENDING
    full.left = 1
    post.clock.move(31)
    await post.clock.until(lambda: sender.counts.delivered == 1)
    assert len(receiver.calls) == 2
