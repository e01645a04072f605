"""`kill -9` of the worker in the middle of an image: callers get the same bytes, and notice nothing."""

from __future__ import annotations

import io
import itertools
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tests.e2e.conftest import RunningServer
from upscaled import Chunk, Client

FAST = "real-esrgan-animevideo-v3"


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _noise(width: int, height: int, planes: int = 3, seed: int = 3) -> np.ndarray:
    """Smooth enough that the network has something to continue, with detail everywhere."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, planes), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _worker(server: RunningServer) -> int:
    """The pid of the worker, waiting for it while it restarts."""
    pid, end = server.process.pid, time.monotonic() + 60
    while time.monotonic() < end:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            line = Path(f"/proc/{child}/cmdline")
            if line.exists() and b"upscaled_server.pool.worker" in line.read_bytes():
                return int(child)
        time.sleep(0.02)
    raise TimeoutError("no worker")


def _file(client: Client, data: bytes, kill: Callable[[], None] | None = None, **options: object) -> bytes:
    """The result; `kill` is called when the first rows of it have come, and before the last."""
    chunks = list[bytes]()
    for event in client.upscale_stream(data, model=FAST, **options):  # type: ignore[arg-type]
        if isinstance(event, Chunk):
            chunks.append(event.data)
            if len(chunks) == 3 and kill is not None:
                kill()
    assert len(chunks) > 4
    return b"".join(chunks)


def _undisturbed_and_killed(server: RunningServer, data: bytes, **options: object) -> tuple[bytes, bytes]:
    with Client(server.address, timeout=150, retries=0) as client:
        undisturbed = _file(client, data, **options)
        before = _worker(server)
        disturbed = _file(client, data, lambda: os.kill(before, signal.SIGKILL), **options)
        assert _worker(server) != before
    return undisturbed, disturbed


def test_an_image_with_alpha_through_the_network_goes_on_with_the_next_worker(
    own_server: RunningServer,
) -> None:
    data = _png(_noise(400, 640, planes=4))
    undisturbed, disturbed = _undisturbed_and_killed(own_server, data, alpha="network")
    assert Image.open(io.BytesIO(undisturbed)).mode == "RGBA"
    assert disturbed == undisturbed


def test_an_image_of_16_bits_goes_on_with_the_next_worker(own_server: RunningServer) -> None:
    data = _png(_noise(400, 640))
    undisturbed, disturbed = _undisturbed_and_killed(own_server, data, bit_depth=16)
    assert undisturbed[24] == 16  # the bit depth in a PNG's header
    assert disturbed == undisturbed


def test_small_images_of_many_callers_all_come_out_the_same(own_server: RunningServer) -> None:
    pictures = [_png(_noise(96 + 8 * n, 160, seed=n)) for n in range(6)]
    with Client(own_server.address, timeout=150, retries=0) as client:
        expected = [client.upscale(each, model=FAST).data for each in pictures]
        done = itertools.count(1)

        def upscale(number: int) -> bytes:
            data = client.upscale(pictures[number % 6], model=FAST).data
            # Others are being computed now, or wait for their turn.
            if next(done) in (6, 18, 30):
                os.kill(_worker(own_server), signal.SIGKILL)
            return data

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(upscale, range(48)))
    assert found == expected * 8
