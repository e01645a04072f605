"""The client's uploads and downloads over connections that break: what arrives is what was sent."""

from __future__ import annotations

import hashlib
import os
import random
from collections import deque
from pathlib import Path

import grpc

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.cutting_proxy import cutting_proxy
from tests.e2e.keyed import FAST, command, picture
from upscaled import Client
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc

SIZE = 200 * 1024 * 1024


def test_200_megabytes_go_up_over_ten_broken_connections(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    block = os.urandom(1024 * 1024)
    with photo.open("wb") as file:
        for number in range(200):
            file.write(number.to_bytes(8, "big") + block[8:])
    chance = random.Random(6)
    with (
        running_server(UPSCALED_MAX_INPUT_BYTES=str(256 << 20)) as server,
        cutting_proxy(server.address) as proxy,
        Client(proxy.address) as client,
    ):
        proxy.after = deque(chance.randrange(1_000_000, SIZE // 11) for _ in range(10))
        stored = client.inputs.upload(photo)
        assert proxy.cuts == 10
        with photo.open("rb") as file:
            assert stored.sha256 == hashlib.file_digest(file, "sha256").digest()
        # The server's own word for what it has.
        with grpc.insecure_channel(server.address) as channel:
            status = blobs_pb2_grpc.BlobsStub(channel).QueryWriteStatus(
                blobs_pb2.QueryWriteStatusRequest(input_id=stored.id), timeout=10
            )
    assert (status.complete, status.committed_size_bytes, status.sha256) == (True, SIZE, stored.sha256)


def test_a_result_comes_down_over_ten_broken_connections(server: RunningServer, tmp_path: Path) -> None:
    with Client(server.address) as client:
        job = client.jobs.create(picture(1000, 800), model=FAST, format="tiff")
        size = job.wait(120).size_bytes
        whole = job.read()
    assert len(whole) == size > 38_000_000
    chance = random.Random(7)
    with cutting_proxy(server.address) as proxy:
        # Pieces of 1 MiB: a connection that brings less brings nothing.
        proxy.after = deque(chance.randrange(1_200_000, size // 11) for _ in range(10))
        done = command(
            "jobs", "download", job.id, "-o", str(tmp_path / "out.tiff"), UPSCALED_SERVER=proxy.address
        )
        assert done.returncode == 0, done.stderr
        assert proxy.cuts == 10
    assert (tmp_path / "out.tiff").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out.tiff"]


def test_who_follows_over_broken_connections_misses_no_change(server: RunningServer) -> None:
    with Client(server.address) as client:
        job_id = client.jobs.create(picture(300, 300), model=FAST).id
    with cutting_proxy(server.address) as proxy, Client(proxy.address) as client:
        states = []
        for event in client.jobs.get(job_id).watch():
            proxy.cut_now()
            if event.progress is None:
                states.append(event.state)
    assert states == ["queued", "running", "succeeded"]
