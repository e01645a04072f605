"""Deleting a caller deletes what is kept for it, wherever it is asked for."""

from __future__ import annotations

from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.e2e.keyed import FAST, bearer, command, keyed_server, picture
from upscaled.v1 import jobs_pb2, jobs_pb2_grpc, options_pb2


def _make_job(address: str, key: str) -> jobs_pb2.Job:
    request = jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(24, 16)),
        options=options_pb2.UpscaleOptions(model=FAST, scale=2),
        wait=Duration(seconds=50),
    )
    with grpc.insecure_channel(address) as channel:
        return jobs_pb2_grpc.JobsStub(channel).CreateJob(request, metadata=bearer(key), timeout=60)


def _files(folder: Path) -> list[str]:
    """Whose they are: the name of each file's folder."""
    return [path.parent.name for path in (folder / "blobs").rglob("*") if path.is_file()]


def test_without_a_server_a_caller_that_has_files_is_not_deleted_and_with_one_they_go(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    with keyed_server(tmp_path) as keyed:
        job = _make_job(keyed.address, keyed.make_key("anna"))
        assert job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    refused = command("callers", "delete", "anna", **folder)
    assert refused.returncode == 1
    assert "start the server" in refused.stderr
    assert _files(tmp_path) == [job.id]
    with keyed_server(tmp_path):
        assert command("callers", "delete", "anna", **folder).returncode == 0
        assert _files(tmp_path) == []


def test_a_caller_of_a_file_of_keys_goes_once_it_is_no_longer_in_it(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    key = command("keys", "generate").stdout.strip()
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"anna:\n  keys: [{key}]\n")
    with keyed_server(tmp_path, UPSCALED_API_KEYS_FILE=str(keys)) as keyed:
        job = _make_job(keyed.address, key)
    assert _files(tmp_path) == [job.id]
    with keyed_server(tmp_path):
        assert command("callers", "set", "anna", **folder).returncode == 0
        assert command("callers", "delete", "anna", **folder).returncode == 0
        assert _files(tmp_path) == []
