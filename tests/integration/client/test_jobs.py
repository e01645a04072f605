"""Jobs are created once, found again, listed, cancelled and deleted, over both clients."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_jobs import FAILED, RUNNING
from fake_server import Failure, FakeServer
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import upscaled
from upscaled import Client, Retries

QUICK = Retries(max_retries=3, initial_seconds=0.01, max_seconds=0.02)


def test_a_job_is_created_followed_and_fetched(client: Any, server: FakeServer, tmp_path: Path) -> None:
    job = client.jobs.create(b"image", model="m", scale=2, labels={"album": "7"})
    result = job.wait(timeout=20)
    assert job.state == "succeeded"
    assert job.done
    assert (result.id, result.url, result.width) == (job.id, f"http://example/{job.id}", 16)
    assert job.download(tmp_path / "out.png").read_bytes() == server.file
    assert job.read() == server.file
    request = server.called("CreateJob")[0].request
    assert (request.options.model, request.options.scale, request.source.image) == ("m", 2, b"image")
    assert dict(job.labels) == {"album": "7"}
    assert len(request.request_id) == 32


def test_everything_that_is_asked_for_arrives(client: Any, server: FakeServer) -> None:
    client.jobs.create(
        url="https://example.com/a.png",
        callback_url="https://example.com/done",
        retention=timedelta(days=2),
        request_id="mine",
        tiles=upscaled.Tiles(size=256),
        format="jpeg",
    )
    request = server.called("CreateJob")[0].request
    assert request.source.url == "https://example.com/a.png"
    assert (request.callback_url, request.request_id) == ("https://example.com/done", "mine")
    assert request.retention.ToTimedelta() == timedelta(days=2)
    assert not request.HasField("wait")
    assert request.options.tiles.size == 256


def test_a_job_knows_what_the_server_said(client: Any, server: FakeServer) -> None:
    server.jobs.at_once = False
    job = client.jobs.create(b"image", callback_url="https://example.com/done", request_id="r")
    assert (job.state, job.done, job.result, job.error) == ("queued", False, None, None)
    assert job.callback.state == "pending"
    assert job.plan.output_width == 16
    assert job.create_time == datetime.fromtimestamp(1_700_000_000, UTC)
    server.jobs.move(job.id, RUNNING)
    server.jobs.progress(job.id, 0.25)
    assert job.state == "queued"  # until somebody asks
    job.refresh()
    assert (job.state, job.progress.fraction, job.attempts) == ("running", 0.25, 1)
    assert client.jobs.get(job.id).state == "running"
    assert job.to_dict()["request_id"] == "r"


def test_the_call_waits_as_long_as_it_is_told(client: Any, server: FakeServer) -> None:
    assert client.jobs.create(b"image", wait=20).state == "succeeded"
    server.jobs.at_once = False
    assert client.jobs.create(b"image", wait=0.05).state == "queued"


def test_a_repeated_request_is_the_same_job(client: Any) -> None:
    first = client.jobs.create(b"image", request_id="r-1")
    assert client.jobs.create(b"image", request_id="r-1").id == first.id
    with pytest.raises(upscaled.AlreadyExistsError):
        client.jobs.create(b"another", request_id="r-1")
    assert client.jobs.create(b"image").id != client.jobs.create(b"image").id


def test_an_answer_that_is_lost_does_not_make_two_jobs(server: FakeServer) -> None:
    server.fail("CreateJob", Failure(grpc.StatusCode.UNAVAILABLE, after_events=1))
    with Client(server.target, retries=QUICK) as client:
        client.jobs.create(b"image")
    assert len(server.called("CreateJob")) == 2
    assert len(server.jobs.kept) == 1


def test_a_check_is_not_a_job(client: Any) -> None:
    job = client.jobs.create(b"image", validate_only=True)
    assert (job.id, job.plan.output_width) == ("", 16)
    with pytest.raises(upscaled.InvalidOptionError, match="only checked"):
        job.refresh()
    with pytest.raises(upscaled.InvalidOptionError, match="only checked"):
        job.wait()


def test_a_failed_job_carries_its_error(client: Any, server: FakeServer, tmp_path: Path) -> None:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="LIMIT_EXCEEDED", metadata={"limit": "5"}))
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    server.jobs.error = status_pb2.Status(code=code, message="too large", details=[info])
    job = client.jobs.create(b"image", request_id="r-9")
    assert job.state == "failed"
    assert isinstance(job.error, upscaled.LimitExceededError)
    assert (job.error.metadata["limit"], job.error.request_id) == (5, "r-9")
    with pytest.raises(upscaled.LimitExceededError, match="too large"):
        job.wait()
    with pytest.raises(upscaled.SourceError, match="is failed"):
        job.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_is_an_error_to_who_waits(client: Any, server: FakeServer) -> None:
    server.jobs.at_once = False
    job = client.jobs.create(b"image")
    with pytest.raises(upscaled.FailedPreconditionError):
        job.delete()
    assert job.cancel().state == "cancelled"
    with pytest.raises(upscaled.CallCancelledError, match="cancelled"):
        job.wait()
    job.delete()
    with pytest.raises(upscaled.NotFoundError):
        job.refresh()


def test_waiting_too_long_leaves_the_job_alone(client: Any, server: FakeServer) -> None:
    server.jobs.at_once = False
    job = client.jobs.create(b"image")
    with pytest.raises(upscaled.DeadlineExceededError, match=r"is queued after 0\.2 s"):
        job.wait(timeout=0.2)
    assert server.called("WatchJob")[0].cancelled.wait(5)
    assert not server.called("CancelJob")


def test_jobs_are_listed_over_pages_newest_first(client: Any, server: FakeServer) -> None:
    for number in range(8):
        client.jobs.create(b"image", request_id=f"r{number}", labels={"odd": str(number % 2)})
    assert [job.request_id for job in client.jobs.list()] == [f"r{number}" for number in range(7, -1, -1)]
    assert len(server.called("ListJobs")) == 3
    odd = list(client.jobs.list(labels={"odd": "1"}, states="succeeded", created_after=date(2026, 11, 1)))
    assert [job.request_id for job in odd] == ["r7", "r5", "r3", "r1"]
    request = server.calls[-1].request
    assert request.created_after.ToDatetime() == datetime(2026, 11, 1)
    assert list(client.jobs.list(states=["failed", "cancelled"])) == []
    assert [int(state) for state in server.calls[-1].request.states] == [FAILED, 5]


def test_pages_are_fetched_as_the_reader_comes_to_them(server: FakeServer) -> None:
    with Client(server.target) as client:
        for number in range(8):
            client.jobs.create(b"image", request_id=f"r{number}")
        for job in client.jobs.list():
            assert job.refresh().state == "succeeded"
            break
        assert len(server.called("ListJobs")) == 1


def test_wrong_values_are_refused_before_anything_is_sent(client: Any, server: FakeServer) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"wait": -1}, "^wait: "),
        ({"retention": "2 days"}, "^retention: "),
        ({"tiles": 3}, "^tiles: "),
        ({"format": "gif"}, "^format: "),
    ]
    for keywords, words in cases:
        with pytest.raises(upscaled.InvalidOptionError, match=words):
            client.jobs.create(url="https://example.com/a.png", **keywords)
    with pytest.raises(upscaled.InvalidOptionError, match="time zone"):
        list(client.jobs.list(created_after=datetime(2026, 11, 1)))
    with pytest.raises(upscaled.InvalidOptionError, match="states: one of queued"):
        list(client.jobs.list(states="done"))
    assert not server.calls


def test_a_job_is_the_source_of_the_next(client: Any, server: FakeServer) -> None:
    first = client.jobs.create(b"image")
    client.jobs.create(first)
    assert server.calls[-1].request.source.output_id == first.id
    client.jobs.create(first.result)
    assert server.calls[-1].request.source.output_id == first.id
    server.jobs.at_once = False
    queued = client.jobs.create(b"image")
    with pytest.raises(upscaled.SourceError, match=r"is queued and has no output; wait\(\)"):
        client.jobs.create(queued)
