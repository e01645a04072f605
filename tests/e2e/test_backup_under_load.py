"""A backup of a real server at work: everything that was acknowledged before it is there after a restore."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, bearer, command, keyed_server, picture
from upscaled.v1 import account_pb2, account_pb2_grpc, blobs_pb2, blobs_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from upscaled.v1 import options_pb2 as options

CALLERS = 3
PRICES = {"UPSCALED_PRICES": "default=1+0"}


def _create(stub: jobs_pb2_grpc.JobsStub, key: str, number: int) -> str:
    request = jobs_pb2.CreateJobRequest(
        source=options.Source(image=picture(24 + number % 9, 16)),
        options=options.UpscaleOptions(model=FAST, scale=2, labels={"number": str(number)}),
        request_id=f"request-{number}",
    )
    return stub.CreateJob(request, metadata=bearer(key), timeout=60).id


def _ended(stub: jobs_pb2_grpc.JobsStub, key: str, job_id: str) -> jobs_pb2.Job:
    events = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id), metadata=bearer(key), timeout=90)
    return list(events)[-1].job


def test_jobs_outputs_keys_and_credits_survive_a_backup_that_is_taken_under_load(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    stop = threading.Event()
    acknowledged: list[tuple[str, str]] = []

    def work(address: str, key: str) -> None:
        """Make jobs; wait for every other, so that some have ended and some have not."""
        with grpc.insecure_channel(address) as channel:
            stub = jobs_pb2_grpc.JobsStub(channel)
            for number in range(1000):
                if stop.is_set():
                    return
                job_id = _create(stub, key, number)
                acknowledged.append((key, job_id))
                if number % 2:
                    _ended(stub, key, job_id)

    with keyed_server(live, **PRICES) as keyed, ThreadPoolExecutor(CALLERS) as threads:
        keys = [keyed.make_key(f"caller-{number}", monthly_credits=10_000) for number in range(CALLERS)]
        working = [threads.submit(work, keyed.address, key) for key in keys]
        while len(acknowledged) < 10 * CALLERS:
            assert not any(each.done() for each in working)
            threading.Event().wait(0.05)
        before = list(acknowledged)
        done = command("backup", str(tmp_path / "backup"), UPSCALED_DATA_DIR=str(live))
        assert done.returncode == 0, done.stderr
        while len(acknowledged) < len(before) + CALLERS:
            threading.Event().wait(0.05)
        stop.set()
        for each in working:
            each.result(60)
    new = {"UPSCALED_DATA_DIR": str(tmp_path / "new"), **PRICES}
    assert command("restore", str(tmp_path / "backup"), **new).returncode == 0
    with running_server(**new) as server, grpc.insecure_channel(server.address) as channel:
        jobs, blobs = jobs_pb2_grpc.JobsStub(channel), blobs_pb2_grpc.BlobsStub(channel)
        for key, job_id in before:
            job = _ended(jobs, key, job_id)
            assert job.state == jobs_pb2.JOB_STATE_SUCCEEDED, job.error
            (output,) = job.result.outputs
            request = blobs_pb2.DownloadOutputRequest(output_id=output.id)
            bodies = blobs.DownloadOutput(request, metadata=bearer(key), timeout=30)
            assert hashlib.sha256(b"".join(body.data for body in bodies)).digest() == output.sha256
        # Each job that the backup knows is paid once, also those that were made again.
        for key in keys:
            known = jobs.ListJobs(jobs_pb2.ListJobsRequest(page_size=1000), metadata=bearer(key), timeout=30)
            for job in known.jobs:
                assert _ended(jobs, key, job.id).state == jobs_pb2.JOB_STATE_SUCCEEDED
            usage = account_pb2_grpc.AccountStub(channel).GetUsage(
                account_pb2.GetUsageRequest(), metadata=bearer(key), timeout=30
            )
            assert usage.credits_used == len(known.jobs)
