"""Uploads and downloads go on where they broke, and nothing is handed over that is not proven."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_server import Failure, FakeServer
from grpc.aio import Metadata
from grpc.aio._call import StreamUnaryCall

import upscaled
from upscaled import Client, Retries

QUICK = Retries(max_retries=2, initial_seconds=0.01, max_seconds=0.02)
IMAGE = os.urandom(20 * 1024 * 1024 + 17)


@pytest.fixture
def patient(server: FakeServer) -> Any:
    with Client(server.target, retries=QUICK) as client:
        yield client


def test_an_upload_becomes_an_input(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(IMAGE)
    for source in (IMAGE, tmp_path / "photo.jpg", io.BytesIO(IMAGE)):
        stored = client.inputs.upload(source, retention=3600)
        assert bytes(server.files.inputs[stored.id].data) == IMAGE
        assert (stored.size_bytes, stored.sha256) == (len(IMAGE), hashlib.sha256(IMAGE).digest())
        assert stored.expire_time is not None
    request = server.called("CreateInput")[0].request
    assert (request.size_bytes, request.sha256) == (len(IMAGE), hashlib.sha256(IMAGE).digest())
    assert request.retention.seconds == 3600
    client.jobs.create(stored)
    assert server.calls[-1].request.source.input_id == stored.id


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_upload_that_is_cut_ten_times_goes_on_where_it_broke(
    patient: Client, server: FakeServer, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "photo.jpg").write_bytes(IMAGE)
    chance = random.Random(seed)
    server.files.cuts = deque(chance.randrange(1, 2_000_000) for _ in range(10))
    server.files.lost = chance.randrange(1000)
    stored = patient.inputs.upload(tmp_path / "photo.jpg")
    assert bytes(server.files.inputs[stored.id].data) == IMAGE
    assert len(server.called("WriteInput")) == 11
    # What was committed was not sent again: at most the messages that were on their way at each cut.
    assert server.files.sent < len(IMAGE) + 10 * 2 * 1024 * 1024


def test_an_upload_that_is_known_by_its_request_goes_on_in_another_client(server: FakeServer) -> None:
    server.files.cuts = deque([5_000_000])
    with Client(server.target, retries=0) as client, pytest.raises(upscaled.UnavailableError):
        client.inputs.upload(IMAGE, request_id="mine")
    with Client(server.target, retries=0) as client:
        stored = client.inputs.upload(IMAGE, request_id="mine")
        assert server.called("WriteInput")[-1].request.offset == 5_000_000
        assert bytes(server.files.inputs[stored.id].data) == IMAGE
        assert client.inputs.upload(IMAGE, request_id="mine").id == stored.id  # there is nothing left to send
        assert len(server.called("WriteInput")) == 2
        with pytest.raises(upscaled.AlreadyExistsError):
            client.inputs.upload(b"another", request_id="mine")


def test_an_upload_whose_status_is_lost_may_be_tried_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc makes INTERNAL of whatever status a call ended with when a message met its end."""
    lost = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), "Internal error from Core")

    def breaks(_call: StreamUnaryCall[Any, Any]) -> Any:
        raise lost
        yield

    monkeypatch.setattr(StreamUnaryCall, "__await__", breaks)
    with Client(server.target, retries=0) as client, pytest.raises(upscaled.UnavailableError, match="broke"):
        client.inputs.upload(IMAGE)


def test_a_discarded_upload_is_sent_once_more_from_the_start(patient: Client, server: FakeServer) -> None:
    server.files.discards = 1
    stored = patient.inputs.upload(IMAGE)
    assert bytes(server.files.inputs[stored.id].data) == IMAGE
    server.files.discards = 2
    with pytest.raises(upscaled.DataLossError, match="discarded"):
        patient.inputs.upload(IMAGE)


def test_a_file_that_shrinks_while_it_is_sent_is_said(server: FakeServer) -> None:
    class Shrinking(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads == 24:  # once for the digest, and then in the middle
                self.truncate(6_000_000)
            return super().read(size)

    with Client(server.target) as client, pytest.raises(upscaled.SourceError, match="and now only"):
        client.inputs.upload(Shrinking(IMAGE))


def test_what_the_server_has_already_is_not_uploaded(client: Any, server: FakeServer) -> None:
    with pytest.raises(upscaled.SourceError, match="use it as it is"):
        client.inputs.upload("https://example.com/a.png")
    assert not server.calls


def test_a_large_image_of_a_job_is_uploaded_first(patient: Client, server: FakeServer) -> None:
    server.files.cuts = deque([3_000_000, 4_000_000])
    job = patient.jobs.create(IMAGE, request_id="r-1")
    (kept,) = server.files.inputs.values()
    assert bytes(kept.data) == IMAGE
    (input_id,) = server.files.inputs
    assert server.called("CreateJob")[0].request.source.input_id == input_id
    # The same job asked for again, by another process after a crash: nothing is sent twice.
    assert patient.jobs.create(IMAGE, request_id="r-1").id == job.id
    assert len(server.called("WriteInput")) == 3
    patient.jobs.create(b"small")
    assert server.calls[-1].request.source.image == b"small"


def test_a_message_limit_of_the_server_decides_what_is_uploaded(client: Any, server: FakeServer) -> None:
    server.limits.max_message_bytes = 1024 * 1024
    client.jobs.create(bytes(1024 * 1024))
    assert server.called("CreateJob")[0].request.source.input_id


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_download_that_is_cut_ten_times_goes_on_where_it_broke(
    patient: Client, server: FakeServer, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    server.files.outputs["out-7"] = IMAGE
    server.files.cuts = deque(chance.randrange(0, 2_000_000) for _ in range(10))
    path = patient.outputs.download("out-7", tmp_path / "out.png")
    assert path.read_bytes() == IMAGE
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]
    offsets = [call.request.offset for call in server.called("DownloadOutput")]
    assert len(offsets) == 11
    assert offsets == sorted(offsets)


def test_a_break_after_the_last_byte_is_no_break(patient: Client, server: FakeServer) -> None:
    server.files.outputs["out-7"] = IMAGE
    server.files.cuts = deque([len(IMAGE)])
    assert patient.outputs.read("out-7") == IMAGE
    assert len(server.called("DownloadOutput")) == 1


def test_wrong_bytes_are_fetched_once_more_and_never_handed_over(
    patient: Client, server: FakeServer, tmp_path: Path
) -> None:
    server.files.outputs["out-7"] = IMAGE
    server.files.wrong_bytes = 1
    assert patient.outputs.read("out-7") == IMAGE
    server.files.wrong_bytes = 2
    (tmp_path / "out.png").write_bytes(b"old")
    with pytest.raises(upscaled.BrokenStreamError, match="SHA-256"):
        patient.outputs.download("out-7", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_announced_is_refused(patient: Client, server: FakeServer) -> None:
    server.files.outputs["out-7"] = IMAGE
    server.files.announces = False
    with pytest.raises(upscaled.BrokenStreamError, match="did not say"):
        patient.outputs.read("out-7")


def test_another_file_than_the_job_named_is_refused(patient: Client, server: FakeServer) -> None:
    job = patient.jobs.create(b"image")
    server.files.outputs[job.id] = server.file[:-1] + b"!"
    with pytest.raises(upscaled.BrokenStreamError, match="another file"):
        job.read()
    server.files.outputs[job.id] = server.file + b"!"
    with pytest.raises(upscaled.BrokenStreamError, match="another file"):
        job.read()


def test_a_download_ends_with_the_server_s_word(patient: Client, server: FakeServer, tmp_path: Path) -> None:
    with pytest.raises(upscaled.NotFoundError, match="no output x"):
        patient.outputs.download("x", tmp_path / "out.png")
    server.fail("DownloadOutput", Failure(grpc.StatusCode.UNAUTHENTICATED))
    with pytest.raises(upscaled.AuthenticationError):
        patient.outputs.read("x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_output_under_its_own_name(client: Any, tmp_path: Path) -> None:
    job = client.jobs.create(b"image")
    assert job.download(tmp_path) == tmp_path / "out.png"
    with pytest.raises(IsADirectoryError):
        client.outputs.download(job.id, tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", r"..\..\passwd", "a/b/passwd"])
def test_a_name_from_the_server_never_leaves_the_folder(
    patient: Client, server: FakeServer, tmp_path: Path, name: str
) -> None:
    job = patient.jobs.create(b"image")
    server.jobs.kept[job.id].job.result.outputs[0].file_name = name
    assert job.refresh().download(tmp_path) == tmp_path / "passwd"


@pytest.mark.parametrize("name", ["", "..", ".", "a\nb", "/"])
def test_a_name_that_is_none_is_replaced_by_the_id(
    patient: Client, server: FakeServer, tmp_path: Path, name: str
) -> None:
    job = patient.jobs.create(b"image")
    server.jobs.kept[job.id].job.result.outputs[0].file_name = name
    assert job.refresh().download(tmp_path) == tmp_path / f"{job.id}.bin"


def test_an_output_is_signed(client: Any, server: FakeServer) -> None:
    job = client.jobs.create(b"image")
    for output in (job, job.id, job.result, job.result.output):
        signed = client.outputs.sign(output, lifetime=60)
        assert str(signed) == signed.url == f"http://example/{job.id}?signature=s"
        assert signed.expire_time is not None
        assert server.calls[-1].request.lifetime.seconds == 60


def test_an_inline_result_needs_no_server(client: Any, server: FakeServer, tmp_path: Path) -> None:
    result = client.upscale(b"image")
    assert client.outputs.read(result) == server.file
    assert client.outputs.download(result, tmp_path).read_bytes() == server.file
    with pytest.raises(upscaled.NoDataError, match="did not store"):
        client.outputs.sign(client.upscale(b"image", output=tmp_path / "x.png"))


def test_a_large_upload_and_download_take_bounded_memory(server: FakeServer, tmp_path: Path) -> None:
    with (tmp_path / "in.jpg").open("wb") as file:
        file.truncate(200 << 20)
    server.files.outputs["out-7"] = bytes(200 << 20)
    code = (
        "import re, sys\nfrom upscaled import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    client.inputs.upload(sys.argv[2])\n    client.outputs.download('out-7', sys.argv[3])\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.target, tmp_path / "in.jpg", tmp_path / "out.png"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (tmp_path / "out.png").stat().st_size == 200 << 20
    assert int(done.stdout) < 150  # MiB, most of them Python and grpc
