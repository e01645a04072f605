"""Jobs over the ends of a real server."""

from __future__ import annotations

import hashlib
import signal
import threading
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, picture
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc, jobs_pb2, jobs_pb2_grpc, options_pb2

SLOW = "real-esrgan-x4-plus-anime"


def _request(width: int, model: str, name: str = "", **options: object) -> jobs_pb2.CreateJobRequest:
    return jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(width, width)),
        options=options_pb2.UpscaleOptions(model=model, **options),  # type: ignore[arg-type]
        request_id=name,
    )


def _watch(stub: jobs_pb2_grpc.JobsStub, job_id: str, after: int = 0) -> list[jobs_pb2.JobEvent]:
    return list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id, after_event_number=after), timeout=90))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_acknowledged_job_outlives_the_server(tmp_path: Path, end: signal.Signals) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path), "UPSCALED_MAX_RUNNING_JOBS": "1"}
    with running_server(**folder) as server, grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)
        made = [stub.CreateJob(_request(160, SLOW, f"job-{n}"), timeout=30) for n in range(2)]
        for event in stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=made[0].id), timeout=60):
            if event.progress.stage in (4, 6):  # in the middle of its work
                break
        last = event.number
        server.stop(end)
    with running_server(**folder) as server, grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)
        assert [stub.CreateJob(_request(160, SLOW, f"job-{n}"), timeout=30).id for n in range(2)] == [
            job.id for job in made
        ]
        rest = _watch(stub, made[0].id, last)
        assert all(event.number > last for event in rest)
        done = rest[-1].job
        assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 2)
        assert _watch(stub, made[1].id)[-1].job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        bodies = blobs_pb2_grpc.BlobsStub(channel).DownloadOutput(
            blobs_pb2.DownloadOutputRequest(output_id=done.result.outputs[0].id), timeout=30
        )
        data = b"".join(body.data for body in bodies)
        assert hashlib.sha256(data).digest() == done.result.outputs[0].sha256
    kept = [path.parent.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(job.id for job in made)


def test_who_watches_or_waits_is_told_that_the_server_stops(tmp_path: Path) -> None:
    codes: list[grpc.StatusCode] = []

    def follow(call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except grpc.RpcError as error:
            codes.append(error.code())

    with (
        running_server(UPSCALED_DATA_DIR=str(tmp_path), UPSCALED_GRACE_SECONDS="20") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = jobs_pb2_grpc.JobsStub(channel)
        job = stub.CreateJob(_request(400, SLOW), timeout=30)
        waiting = _request(400, SLOW, "waiting")
        waiting.wait.CopyFrom(Duration(seconds=100))
        threads = [
            threading.Thread(target=follow, args=(lambda: _watch(stub, job.id),)),
            threading.Thread(target=follow, args=(lambda: stub.CreateJob(waiting, timeout=120),)),
        ]
        for thread in threads:
            thread.start()
        while len(stub.ListJobs(jobs_pb2.ListJobsRequest(), timeout=10).jobs) < 2:
            threading.Event().wait(0.05)
        server.stop(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 2


def test_tiles_come_again_after_a_restart(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    options = {"tiles": options_pb2.TileOptions(enabled=True, size=64)}
    with running_server(**folder) as server, grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)
        job = stub.CreateJob(_request(40, FAST, **options), timeout=30)
        live = list(stub.StreamTiles(jobs_pb2.StreamTilesRequest(job_id=job.id), timeout=60))
        assert [tile.sequence for tile in live] == list(range(9))
    with running_server(**folder) as server, grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)
        after = jobs_pb2.StreamTilesRequest(job_id=job.id, after_sequence=3)
        assert list(stub.StreamTiles(after, timeout=60)) == live[4:]
        stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job.id), timeout=30)
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_a_running_job_is_cancelled(tmp_path: Path) -> None:
    with (
        running_server(UPSCALED_DATA_DIR=str(tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = jobs_pb2_grpc.JobsStub(channel)
        job = stub.CreateJob(_request(600, SLOW), timeout=30)
        for event in stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job.id), timeout=60):
            if event.HasField("progress"):
                stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.id), timeout=30)
                break
        assert _watch(stub, job.id)[-1].job.state == jobs_pb2.JOB_STATE_CANCELLED
