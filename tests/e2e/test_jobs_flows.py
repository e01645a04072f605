"""The ways in which services of this kind are used, over gRPC, against a real server."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image
from standardwebhooks import Webhook

from tests.e2e.conftest import RunningServer
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.e2e.receiver import Receiver, receiver
from upscaled.v1 import (
    account_pb2,
    account_pb2_grpc,
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    options_pb2,
)

ADDRESS = "https://images.example.com"


@pytest.fixture(scope="module")
def files() -> Iterator[Receiver]:
    """An HTTP server of this machine: serves a picture, and takes callbacks."""
    with receiver(picture(24, 16)) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, files: Receiver) -> Iterator[KeyedServer]:
    host = files.origin.removeprefix("http://")
    with keyed_server(
        tmp_path_factory.mktemp("flows"),
        UPSCALED_PUBLIC_URL=ADDRESS,
        UPSCALED_FETCH_ALLOW=host,
        UPSCALED_CALLBACK_ALLOW=host,
        UPSCALED_CALLBACK_HTTP="true",
        UPSCALED_PRICES="default=1+2",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def key(keyed: KeyedServer) -> str:
    return keyed.make_key("anna", monthly_credits=100)


@pytest.fixture(scope="module")
def channel(keyed: KeyedServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(keyed.address) as channel:
        yield channel


def _options(**options: object) -> options_pb2.UpscaleOptions:
    return options_pb2.UpscaleOptions(model=FAST, **options)  # type: ignore[arg-type]


def _create(channel: grpc.Channel, key: str, source: options_pb2.Source, **more: object) -> jobs_pb2.Job:
    message = jobs_pb2.CreateJobRequest(source=source, **more)  # type: ignore[arg-type]
    return jobs_pb2_grpc.JobsStub(channel).CreateJob(message, metadata=bearer(key), timeout=60)


def _ended(channel: grpc.Channel, key: str, job_id: str) -> jobs_pb2.Job:
    request = jobs_pb2.WatchJobRequest(job_id=job_id)
    events = list(jobs_pb2_grpc.JobsStub(channel).WatchJob(request, metadata=bearer(key), timeout=60))
    return events[-1].job


def _download(channel: grpc.Channel, key: str, output_id: str) -> bytes:
    request = blobs_pb2.DownloadOutputRequest(output_id=output_id)
    bodies = blobs_pb2_grpc.BlobsStub(channel).DownloadOutput(request, metadata=bearer(key), timeout=60)
    return b"".join(body.data for body in bodies)


def _size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


def test_bytes_are_submitted_and_the_result_is_fetched_later(channel: grpc.Channel, key: str) -> None:
    source = options_pb2.Source(image=picture(24, 16))
    job = _create(channel, key, source, options=_options())
    assert (job.state, len(job.id)) == (jobs_pb2.JOB_STATE_QUEUED, 26)
    assert job.plan.output_width == 96
    done = _ended(channel, key, job.id)
    assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED
    (output,) = done.result.outputs
    data = _download(channel, key, output.id)
    assert (_size(data), len(data)) == ((96, 64), output.size_bytes)
    assert hashlib.sha256(data).digest() == output.sha256


def test_an_address_or_an_earlier_output_and_nothing_else_is_enough(
    channel: grpc.Channel, key: str, files: Receiver
) -> None:
    wait = Duration(seconds=50)
    first = _create(channel, key, options_pb2.Source(url=f"{files.origin}/in.jpg?token=x"), wait=wait)
    assert first.state == jobs_pb2.JOB_STATE_SUCCEEDED, first.error
    assert first.input.description == f"{files.origin}/in.jpg"
    assert first.result.settings.model == "real-esrgan-x4-plus"
    (output,) = first.result.outputs
    assert output.url.startswith(f"{ADDRESS}/v1/outputs/{output.id}:download?signature=")
    assert first.result.credits.charged == pytest.approx(1 + 2 * 96 * 64 / 1e6, abs=1e-4)
    second = _create(channel, key, options_pb2.Source(output_id=output.id), options=_options(), wait=wait)
    assert second.state == jobs_pb2.JOB_STATE_SUCCEEDED, second.error
    assert (second.result.plan.output_width, second.result.plan.output_height) == (384, 256)
    left = second.result.credits.remaining
    assert left == pytest.approx(first.result.credits.remaining - second.result.credits.charged)


def test_a_stored_image_is_acknowledged_and_the_receiver_is_told(
    channel: grpc.Channel, key: str, files: Receiver
) -> None:
    blobs = blobs_pb2_grpc.BlobsStub(channel)
    made = blobs.CreateInput(blobs_pb2.CreateInputRequest(), metadata=bearer(key), timeout=20)
    write = blobs_pb2.WriteInputRequest(input_id=made.id, finish=True)
    write.content.data = picture(24, 16)
    assert blobs.WriteInput(iter([write]), metadata=bearer(key), timeout=20).complete
    source = options_pb2.Source(input_id=made.id)
    options = _options(labels={"order": "17"}, file_name="photo")
    told = _create(channel, key, source, options=options, callback_url=f"{files.origin}/hook")
    assert told.state == jobs_pb2.JOB_STATE_QUEUED
    body, headers = files.wait_for_callback(30)
    secrets = account_pb2_grpc.AccountStub(channel).GetWebhookSecrets(
        account_pb2.GetWebhookSecretsRequest(), metadata=bearer(key), timeout=20
    )
    assert Webhook(secrets.secrets[0]).verify(body, headers)
    posted = json.loads(body)
    assert (posted["id"], posted["state"], posted["labels"]) == (
        told.id,
        "JOB_STATE_SUCCEEDED",
        {"order": "17"},
    )
    (output,) = posted["result"]["outputs"]
    assert output["file_name"] == "photo.png"
    assert output["url"].startswith(ADDRESS)
    # Without a receiver the same call waits, and answers with the same body.
    answered = _create(channel, key, source, options=options, wait=Duration(seconds=50))
    assert answered.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert (
        answered.result.outputs[0].sha256.hex()
        == hashlib.sha256(_download(channel, key, posted["id"])).hexdigest()
    )
    assert answered.labels == posted["labels"]


@pytest.mark.parametrize(
    ("size", "expected"), [({"scale": 2.5}, (60, 40)), ({"width": 30}, (30, 20)), ({"height": 50}, (75, 50))]
)
@pytest.mark.parametrize("by_url", [False, True])
def test_size_is_a_factor_or_a_side(
    channel: grpc.Channel, key: str, files: Receiver, size: dict[str, float], expected: object, by_url: bool
) -> None:
    address = options_pb2.Source(url=f"{files.origin}/in.jpg")
    source = address if by_url else options_pb2.Source(image=picture(24, 16))
    job = _create(channel, key, source, options=_options(**size), wait=Duration(seconds=50))
    assert job.state == jobs_pb2.JOB_STATE_SUCCEEDED, job.error
    assert _size(_download(channel, key, job.result.outputs[0].id)) == expected


def test_a_job_that_would_cost_more_than_is_left_is_refused(
    channel: grpc.Channel, keyed: KeyedServer
) -> None:
    poor = keyed.make_key("poor", monthly_credits=0.5)
    with pytest.raises(grpc.RpcError) as caught:
        _create(channel, poor, options_pb2.Source(image=picture(24, 16)), options=_options())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.QuotaFailure" in str(dict(caught.value.trailing_metadata()))


def test_another_caller_sees_neither_job_nor_output(
    channel: grpc.Channel, keyed: KeyedServer, key: str
) -> None:
    source = options_pb2.Source(image=picture(24, 16))
    job = _create(channel, key, source, options=_options(), wait=Duration(seconds=50))
    other = keyed.make_key("other")
    stub = jobs_pb2_grpc.JobsStub(channel)
    for call in (
        lambda: stub.GetJob(jobs_pb2.GetJobRequest(job_id=job.id), metadata=bearer(other), timeout=20),
        lambda: stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.id), metadata=bearer(other), timeout=20),
        lambda: stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job.id), metadata=bearer(other), timeout=20),
        lambda: _ended(channel, other, job.id),
        lambda: _download(channel, other, job.result.outputs[0].id),
        lambda: _create(channel, other, options_pb2.Source(output_id=job.result.outputs[0].id)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_validating_a_job_records_nothing(channel: grpc.Channel, keyed: KeyedServer) -> None:
    looker = keyed.make_key("looker")
    source = options_pb2.Source(image=picture(24, 16))
    looked = _create(channel, looker, source, options=_options(scale=2), validate_only=True)
    assert (looked.id, looked.plan.output_width) == ("", 48)
    stub = jobs_pb2_grpc.JobsStub(channel)
    assert not stub.ListJobs(jobs_pb2.ListJobsRequest(), metadata=bearer(looker), timeout=20).jobs


def test_jobs_without_keys_belong_to_everybody_without_one(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)
        request = jobs_pb2.CreateJobRequest(
            source=options_pb2.Source(image=picture(24, 16)),
            options=_options(labels={"test": "nobody"}),
            wait=Duration(seconds=50),
        )
        job = stub.CreateJob(request, timeout=60)
        assert job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        listed = stub.ListJobs(jobs_pb2.ListJobsRequest(labels=["test=nobody"]), timeout=20)
        assert [each.id for each in listed.jobs] == [job.id]


def test_no_image_is_refused_before_a_job_is_made(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        request = jobs_pb2.CreateJobRequest(source=options_pb2.Source(image=b"not an image"))
        jobs_pb2_grpc.JobsStub(channel).CreateJob(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
