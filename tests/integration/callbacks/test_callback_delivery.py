"""Receivers are told that a job has ended, as Standard Webhooks has it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import standardwebhooks
from tests.integration.callbacks.post_office import SECRETS, Post, render
from tests.integration.callbacks.receiver import Receiver

from upscaled_server.errors import UrlRefused
from upscaled_server.jobs.callbacks.schedule import WAITS_SECONDS
from upscaled_server.jobs.job import CallbackState


@pytest.fixture(autouse=True)
def _opened(post: Post, receiver: Receiver) -> None:
    post.settings["callback_allow"] = f"127.0.0.0/8:{receiver.port}"


async def test_a_receiver_is_told_once_and_can_verify_it(post: Post, receiver: Receiver) -> None:
    # What the official library compares with; in whole seconds, as only the test moves this clock.
    post.clock.time = float(int(datetime.now(UTC).timestamp()))
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.delivered == 1)
    (call,) = receiver.calls
    assert (call.path, call.body) == ("/hook?token=SECRET41", render(job))
    assert call.headers["content-type"] == "application/json"
    assert call.headers["webhook-id"] == f"msg_{job.id}"
    for secret in SECRETS:
        verified = standardwebhooks.Webhook("whsec_" + base64.b64encode(secret).decode())
        assert verified.verify(call.body, call.headers) == call.job
    callback = await post.callback_of(job)
    assert (callback.state, callback.attempts, callback.last_http_status) == (CallbackState.DELIVERED, 1, 200)
    assert callback.next_attempt is None
    assert await post.noted() == []
    assert sender.pending == 0


async def test_a_receiver_that_is_down_is_tried_ten_times_over_three_days(
    post: Post, receiver: Receiver
) -> None:
    receiver.answer = "500 Down"
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    began = post.clock.time
    await sender.enqueue(job)
    times = []
    for tries in range(1, 10):
        await post.clock.until(lambda tries=tries: sender.counts.failed == tries)  # type: ignore[misc]
        callback = await post.callback_of(job)
        assert (callback.state, callback.attempts) == (CallbackState.PENDING, tries)
        assert callback.last_http_status == 500
        assert callback.next_attempt is not None
        times.append(callback.next_attempt - post.clock.time)
        post.clock.move(times[-1] - 0.01)
        assert len(receiver.calls) == tries
        post.clock.move(0.02)
    await post.clock.until(lambda: sender.counts.given_up == 1)
    assert all(0.9 <= took / wait <= 1.1 for took, wait in zip(times, WAITS_SECONDS, strict=True))
    assert 62 * 3600 < post.clock.time - began < 78 * 3600
    callback = await post.callback_of(job)
    assert (callback.state, callback.attempts, callback.next_attempt) == (CallbackState.FAILED, 10, None)
    assert len(receiver.calls) == 10
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert len({call.headers["webhook-timestamp"] for call in receiver.calls}) == 10
    assert await post.noted() == []


async def test_a_receiver_that_is_gone_is_told_no_more(post: Post, receiver: Receiver) -> None:
    receiver.answer = "410 Gone"
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.given_up == 1)
    callback = await post.callback_of(job)
    assert (callback.state, callback.attempts, callback.last_http_status) == (CallbackState.FAILED, 1, 410)
    assert await post.noted() == []


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("7200", 7200, 7200),
        ("864000", 86400, 86400),
        ("date", 7199, 7200),
        ("0", 4.5, 5.5),
        ("soon", 4.5, 5.5),
    ],
)
async def test_a_receiver_may_ask_for_time(
    post: Post, receiver: Receiver, asked: str, least: float, most: float
) -> None:
    if asked == "date":
        asked = format_datetime(datetime.fromtimestamp(post.clock.time + 7200, UTC), usegmt=True)
    receiver.answer = f"503 Busy\r\nRetry-After: {asked}"
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.failed == 1)
    callback = await post.callback_of(job)
    assert callback.next_attempt is not None
    assert least <= callback.next_attempt - post.clock.time <= most


async def test_a_redirect_is_a_failure_and_is_not_followed(post: Post, receiver: Receiver) -> None:
    receiver.answer = f"302 Found\r\nLocation: {receiver.url('/other')}"
    sender = await post.start()
    job = await post.ended_job(receiver.url())
    await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.failed == 1)
    assert [call.path for call in receiver.calls] == ["/hook?token=SECRET41"]
    assert (await post.callback_of(job)).last_http_status == 302


async def test_an_address_inside_is_not_called(
    post: Post, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    post.settings["callback_allow"] = ()
    post.settings["callback_ports"] = frozenset({receiver.port})
    sender = await post.start()
    for host in ("127.0.0.1", "localhost"):
        job = await post.ended_job(f"http://{host}:{receiver.port}/?SECRET41")
        await sender.enqueue(job)
    await post.clock.until(lambda: sender.counts.failed == 2)
    assert receiver.calls == []
    assert "does not lead to a public address" in caplog.text
    assert "SECRET41" not in caplog.text


async def test_what_can_never_be_called_is_refused_before_the_job_is_made(post: Post) -> None:
    post.settings["callback_allow"] = ()
    sender = await post.start()
    sender.check("http://93.184.216.34/hook")
    for url in (
        "http://127.0.0.1/",
        "http://10.0.0.1/",
        "http://a:b@receiver.test/",
        "ftp://a/",
        "http://a:25/",
    ):
        with pytest.raises(UrlRefused, match="callback_url"):
            sender.check(url)
    post.settings["callback_http"] = False
    only_https = await post.start()
    only_https.check("https://receiver.test/hook")
    with pytest.raises(UrlRefused, match="https"):
        only_https.check("http://receiver.test/hook")


async def test_a_job_without_a_receiver_tells_nobody(post: Post) -> None:
    sender = await post.start()
    job = await post.ended_job("https://receiver.test/")
    await sender.enqueue(replace(job, callback=None))
    assert await post.noted() == []
