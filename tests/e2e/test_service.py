"""What a service owes its callers besides pixels: answers under load, an orderly end, a single start."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from upscaled import Chunk, Client, Done, Plan, Progress, Tile, UpscaledError

FAST = "real-esrgan-animevideo-v3"
SLOW = "real-esrgan-x4-plus-anime"
KEPT_BUFFERS = 8


def _noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    return out.getvalue()


def _children(pid: int) -> set[int]:
    """Every descendant of a process."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | _children(int(child))
    return found


def _descriptors(pid: int) -> Counter[str]:
    """How many of each kind are open."""
    found = Counter[str]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[re.sub(r"\d+", "", str(each.readlink()))] += 1
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(condition: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        threading.Event().wait(0.05)
    return False


def test_every_service_says_that_it_serves(server: RunningServer) -> None:
    names = ("Upscaler", "Jobs", "Blobs", "Models", "Account", "Server", "Admin")
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *(f"upscaled.v1.{name}" for name in names)):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="upscaled.v1.Unknown"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_whole_contract(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    names = ("Upscaler", "Jobs", "Blobs", "Models", "Account", "Server", "Admin")
    assert {f"upscaled.v1.{name}" for name in names} <= services


def test_the_model_list_answers_while_an_image_is_being_computed(server: RunningServer) -> None:
    with Client(server.address) as busy, Client(server.address) as other:
        other.models.list()
        stream = busy.upscale_stream(_noise(700, 500), model=FAST, omit_file=True)
        assert isinstance(next(stream), Plan)
        assert isinstance(next(stream), Progress)
        # Answered between two events of the long call, that is, before it ends.
        names = [model.name for model in other.models.list(timeout=30)]
        done_after = [type(event) for event in stream]
        assert FAST in names
        assert done_after[-1] is Done


def test_two_callers_share_the_device_and_the_small_one_ends_first(server: RunningServer) -> None:
    ended: list[str] = []

    def run(name: str, data: bytes, started: threading.Event) -> None:
        with Client(server.address, timeout=120) as client:
            for event in client.upscale_stream(data, model=FAST, omit_file=True):
                if isinstance(event, Progress):
                    started.set()
        ended.append(name)

    started = threading.Event()
    large = threading.Thread(target=run, args=("large", _noise(1400, 900), started))
    large.start()
    assert started.wait(60)
    run("small", _noise(64, 64), threading.Event())
    large.join(120)
    assert ended == ["small", "large"]


def test_a_deadline_ends_the_work(own_server: RunningServer) -> None:
    with Client(own_server.address, retries=0) as client:
        with pytest.raises(UpscaledError) as caught:
            client.upscale(_noise(600, 600), model=SLOW, timeout=1.0)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        # The device is free again: a small image does not wait for the rest of the large one.
        assert client.upscale(_noise(16, 16), model=FAST, timeout=60).width == 64


def test_a_client_that_leaves_frees_the_device_and_leaves_nothing_behind(own_server: RunningServer) -> None:
    pid = own_server.process.pid
    with Client(own_server.address, timeout=60) as client:
        client.upscale(_noise(16, 16), model=FAST)
        _wait_until(lambda: len(_children(pid)) == 2)
        before, descriptors = _children(pid), _descriptors(pid)
        for _ in range(5):
            with client.upscale_stream(_noise(900, 700), model=FAST, tiles=True) as stream:
                next(stream)
        assert client.upscale(_noise(16, 16), model=FAST).width == 64
    assert _wait_until(lambda: _children(pid) == before), "processes are left over"
    # A few buffers are kept for the next rows, more of them the slower the worker was.
    descriptors["/memfd:upscaled-pixels (deleted)"] += KEPT_BUFFERS
    assert _wait_until(lambda: not _descriptors(pid) - descriptors), _descriptors(pid) - descriptors


def test_a_reader_that_stops_reading_does_not_stop_the_others(server: RunningServer) -> None:
    with Client(server.address) as lazy, Client(server.address, timeout=60) as busy:
        stream = lazy.upscale_stream(_noise(1200, 800), model=FAST, tiles=True)
        next(stream)
        assert busy.upscale(_noise(32, 32), model=FAST).width == 128
        stream.close()


def test_a_worker_killed_in_the_middle_of_an_image_is_replaced_and_nobody_notices(
    own_server: RunningServer,
) -> None:
    def worker() -> int:
        for child in _children(own_server.process.pid):
            if b"upscaled_server.pool.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        return 0

    def upscaled(kills: int) -> bytes:
        stream = client.upscale_stream(_noise(900, 700), model=FAST)
        chunks = []
        for event in stream:
            if isinstance(event, Chunk):
                chunks.append(event.data)
            if isinstance(event, Progress) and event.rows_done and kills:
                kills -= 1
                os.kill(worker(), signal.SIGKILL)
        assert not kills
        return b"".join(chunks)

    with Client(own_server.address, timeout=120, retries=0) as client:
        assert upscaled(kills=1) == upscaled(kills=0)


def test_sigterm_lets_a_running_call_finish_and_refuses_new_ones(own_server: RunningServer) -> None:
    with Client(own_server.address, timeout=60, retries=0) as client:
        stream = client.upscale_stream(_noise(500, 400), model=FAST)
        next(stream)
        next(stream)
        own_server.process.send_signal(signal.SIGTERM)
        events = list(stream)
        assert isinstance(events[-1], Done)
        assert any(isinstance(event, Chunk) for event in events)
        with pytest.raises(UpscaledError) as caught:
            client.upscale(_noise(16, 16), model=FAST)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert own_server.process.wait(60) == 0


def test_a_killed_server_leaves_no_process_behind(own_server: RunningServer) -> None:
    children = _children(own_server.process.pid)
    assert children
    own_server.process.kill()
    own_server.process.wait(30)
    assert _wait_until(lambda: not any(_alive(child) for child in children))


def test_a_second_server_on_one_folder_refuses_to_start(tmp_path: Path) -> None:
    with running_server(UPSCALED_DATA_DIR=str(tmp_path)):
        second = subprocess.run(
            [sys.executable, "-m", "upscaled", "serve", "--listen", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "UPSCALED_DATA_DIR": str(tmp_path)},
            check=False,
        )
    assert second.returncode == 1
    assert "in use by another server" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_named(server: RunningServer) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "upscaled", "serve", "--listen", server.address],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "UPSCALED_DATA_DIR": f"/tmp/upscaled-second-{os.getpid()}"},
        check=False,
    )
    assert second.returncode == 1
    assert server.address in second.stderr


def test_tiles_arrive_long_before_the_image_is_done(server: RunningServer) -> None:
    with Client(server.address, timeout=120) as client:
        kinds = [type(e) for e in client.upscale_stream(_noise(300, 1200), model=FAST, tiles=True)]
    first_tile = kinds.index(Tile)
    last_progress = len(kinds) - 1 - kinds[::-1].index(Progress)
    assert Progress in kinds[first_tile:last_progress]
    assert kinds.count(Tile) == 3 * 10
