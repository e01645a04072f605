"""Statuses become errors with their numbers; what may be tried again is, and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import grpc
import pytest
from fake_server import Failure, FakeServer

import upscaled
from upscaled import Client, Retries

QUICK = Retries(max_retries=3, initial_seconds=0.01, max_seconds=0.02)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_arrives_as_its_error(server: FakeServer, code: grpc.StatusCode) -> None:
    server.fail(
        "UpscaleStream", Failure(code, "because", reason="WHY", metadata={"limit": "3", "actual": "x"})
    )
    with Client(server.target, retries=0) as client, pytest.raises(upscaled.UpscaledError) as caught:
        client.upscale(b"image", request_id="r-7")
    error = caught.value
    assert type(error) is not upscaled.UpscaledError
    assert (error.code, error.reason, error.request_id) == (code, "WHY", "r-7")
    assert dict(error.metadata) == {"limit": 3, "actual": "x"}
    assert str(error).startswith("because.")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=7.5), upscaled.OverloadedError),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, quota=True), upscaled.QuotaExceededError),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="LIMIT_EXCEEDED"), upscaled.LimitExceededError),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED), upscaled.ResourceExhaustedError),
        (Failure(grpc.StatusCode.UNAVAILABLE, "Connection refused", reason="X"), upscaled.UnavailableError),
    ],
)
def test_details_narrow_the_error(server: FakeServer, failure: Failure, kind: type) -> None:
    server.fail("ListModels", failure)
    with Client(server.target, retries=0) as client, pytest.raises(upscaled.UpscaledError) as caught:
        client.models.list()
    assert type(caught.value) is kind
    assert caught.value.retry_after == failure.retry_after


def test_field_violations_arrive(server: FakeServer) -> None:
    server.fail(
        "UpscaleStream", Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=(("options.scale", "above 0"),))
    )
    with Client(server.target) as client, pytest.raises(upscaled.InvalidRequestError) as caught:
        client.upscale(b"image", scale=-1)
    assert caught.value.field_violations == (upscaled.FieldViolation("options.scale", "above 0"),)
    assert "options.scale: above 0." in str(caught.value)


def test_details_that_cannot_be_read_do_not_hide_the_status(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failure, "details", lambda _self: b"\xff\xff garbage")
    server.fail("ListModels", Failure(grpc.StatusCode.NOT_FOUND, "gone"))
    with Client(server.target) as client, pytest.raises(upscaled.NotFoundError, match="gone"):
        client.models.list()


def test_unavailable_is_tried_again_with_the_same_request_id(server: FakeServer) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE), times=2)
    with Client(server.target, retries=QUICK) as client:
        assert client.upscale(b"image").data == server.file
    ids = {call.request.request_id for call in server.called("UpscaleStream")}
    assert len(server.called("UpscaleStream")) == 3
    assert len(ids) == 1
    assert ids != {""}


def test_attempts_are_counted(server: FakeServer) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE), times=4)
    with Client(server.target, retries=QUICK) as client, pytest.raises(upscaled.UnavailableError):
        client.upscale(b"image")
    assert len(server.called("UpscaleStream")) == 4


def test_a_wrong_request_is_sent_once(server: FakeServer) -> None:
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        server.fail("ListModels", Failure(code))
        with Client(server.target, retries=QUICK) as client, pytest.raises(upscaled.UpscaledError):
            client.models.list()
    assert len(server.calls) == 3


def test_the_delay_the_server_asks_for_is_kept(server: FakeServer) -> None:
    server.fail("ListModels", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.3))
    with Client(server.target, retries=QUICK) as client:
        client.models.list()
    first, second = server.called("ListModels")
    assert second.at - first.at >= 0.3


def test_a_delay_beyond_the_deadline_is_raised_at_once(server: FakeServer) -> None:
    server.fail("ListModels", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=30))
    with Client(server.target, timeout=20) as client, pytest.raises(upscaled.OverloadedError) as caught:
        client.models.list()
    assert caught.value.retry_after == 30
    assert "Try again in 30 s." in str(caught.value)
    assert len(server.calls) == 1


def test_the_timeout_is_shared_by_all_attempts(server: FakeServer) -> None:
    server.fail("ListModels", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=1.0))
    with Client(server.target, timeout=50) as client:
        client.models.list(timeout=5)
    first, second = (call.time_remaining for call in server.called("ListModels"))
    assert first is not None
    assert second is not None
    assert 4 < first < 5.2
    assert second < 4.2  # grpc rounds what it sends up by a few percent


def test_the_deadline_ends_a_call_that_hangs(server: FakeServer, tmp_path: Path) -> None:
    server.hang_after_events = 3
    with Client(server.target) as client:
        with pytest.raises(upscaled.DeadlineExceededError):
            client.upscale(b"image", timeout=0.5, output=tmp_path / "out.png")
        assert server.calls[-1].cancelled.wait(5)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_has_begun_is_not_begun_again(server: FakeServer) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE, after_events=2))
    seen = []
    with Client(server.target, retries=QUICK) as client, pytest.raises(upscaled.UnavailableError):
        seen.extend(client.upscale_stream(b"image"))
    assert len(seen) <= 2
    assert len(server.called("UpscaleStream")) == 1


def test_a_stream_that_has_not_begun_is(server: FakeServer) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE), times=2)
    with Client(server.target, retries=QUICK) as client:
        events = list(client.upscale_stream(b"image"))
    assert isinstance(events[-1], upscaled.Done)
    assert len(server.called("UpscaleStream")) == 3


def test_a_collected_stream_that_broke_in_the_middle_is_done_again_from_the_start(
    server: FakeServer, tmp_path: Path
) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE, after_events=4))
    with Client(server.target, retries=QUICK) as client:
        client.upscale(b"image", output=tmp_path / "out.png")
        assert (tmp_path / "out.png").read_bytes() == server.file
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE, after_events=4))
    with Client(server.target, retries=QUICK) as client:
        assert client.upscale(b"image").data == server.file


def test_nobody_at_the_target_is_said_with_the_way_out() -> None:
    with Client("127.0.0.1:1", retries=QUICK) as client, pytest.raises(upscaled.ConnectError) as caught:
        client.upscale(b"image")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1" in str(caught.value)
    assert "upscaled serve --listen" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


def test_a_server_that_comes_late_is_found_within_the_retries() -> None:
    late = FakeServer()
    late.start()
    target = late.target
    late.stop()
    again = FakeServer()
    with Client(target, retries=Retries(max_retries=50, initial_seconds=0.05, max_seconds=0.1)) as client:
        timer = threading.Timer(0.5, again.start, [target])
        timer.start()
        try:
            assert client.server_info().version == "1.2.3"
        finally:
            timer.join()
            again.stop()


def test_backoff_is_bounded_by_the_deadline_not_only_by_the_count() -> None:
    start = time.monotonic()
    with (
        Client(
            "127.0.0.1:1", retries=Retries(max_retries=1000, initial_seconds=0.05, max_seconds=0.1)
        ) as client,
        pytest.raises(upscaled.UpscaledError),
    ):
        client.server_info(timeout=1.0)
    assert time.monotonic() - start < 30
