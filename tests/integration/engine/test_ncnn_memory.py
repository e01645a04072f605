"""Memory of ncnn's pools outlives the network that it was taken for."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import pytest
from tests.integration.engine.truth import ANIME, VIDEO, Load

from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.backends.ncnn_binding import new_mat, to_mat
from upscaled_server.engine.backends.ncnn_memory import pool, release
from upscaled_server.engine.working_memory import KEPT_SHARE
from upscaled_server.errors import OutOfMemory
from upscaled_server.pool.supervisor import ALLOCATOR
from upscaled_server.tiling.cut import Piece, cut_axis

# What a failed step leaves: a cycle that holds arrays, found in another thread when the network has gone.
_LEFT_OVER = """
import gc, pathlib, sys, threading
from upscaled_server.engine.bands.ncnn_bands import NcnnBands
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

store = WeightStore(StoreOptions(cache=pathlib.Path(sys.argv[2]), download=False))
weights = store.load(Catalogue().resolve(sys.argv[1]))
gc.disable()
for closes in (True, False) * 20:
    bands = NcnnBands(weights.as_ncnn(), weights.spec.architecture)
    left = {"values": [bands.memory(10_000) for _ in range(5)]}
    left["left"] = left
    if closes:
        bands.close()
    del bands, left
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
left = {"values": [NcnnBands(weights.as_ncnn(), weights.spec.architecture).memory(10_000)]}
left["left"] = left
print("there")
"""


def test_arrays_that_are_collected_after_their_network_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LEFT_OVER, VIDEO, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "there\n", "")


_TOO_LITTLE = """
import pathlib, resource, sys
from upscaled_server.engine import counters
from upscaled_server.engine.bands.ncnn_bands import NcnnBands
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.errors import OutOfMemory

store = WeightStore(StoreOptions(cache=pathlib.Path(sys.argv[2]), download=False))
weights = store.load(Catalogue().resolve(sys.argv[1]))
bands = NcnnBands(weights.as_ncnn(), weights.spec.architecture)
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for values in (1_400_000_000, 2**31, 2**40):
    try:
        bands.memory(values)
    except OutOfMemory as error:
        print(error.message)
assert bands.memory(10_000).shape == (10_000,)
print(counters.take())
"""


def test_memory_that_is_refused_is_said_to_have_run_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TOO_LITTLE, VIDEO, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert ended.stdout.splitlines() == ["ncnn ran out of memory"] * 3 + ["{'out_of_memory': 3}"], (
        ended.stderr
    )


def _address(mat: Any) -> int:
    return np.asarray(mat).ctypes.data


def test_threads_share_no_pool_and_give_back_to_the_one_that_a_block_came_from() -> None:
    release()  # what other tests left might suit as well
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:

        def block(thread: ThreadPoolExecutor) -> Any:
            return thread.submit(lambda: new_mat(1 << 16, allocator=pool())).result()

        held = block(one)
        first = _address(held)
        other.submit(held.release).result()
        assert other.submit(pool).result() is not one.submit(pool).result()
        assert _address(block(other)) != first
        assert _address(block(one)) == first


def test_a_thread_that_has_ended_leaves_its_pool_to_the_next() -> None:
    def of_new_thread() -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(pool).result()

    assert len({id(of_new_thread()) for _ in range(5)}) == 1


def test_what_every_threads_pool_keeps_is_released() -> None:
    size = 64 << 20
    with ThreadPoolExecutor(2) as threads:
        together = threading.Barrier(2, timeout=60)

        def use() -> None:
            together.wait()  # so that neither takes both
            np.asarray(new_mat(size // 4, allocator=pool()))[...] = 1

        for each in [threads.submit(use) for _ in range(2)]:
            each.result()
        kept = _resident()
        release()
        assert kept - _resident() >= 1.9 * size


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class _NoMemory:
    """As `ncnn.Mat`, when there is no memory."""

    PixelType = ncnn.Mat.PixelType

    def __new__(cls, *_: object, **__: object) -> Any:
        return _NoMemory.from_pixels()

    @staticmethod
    def from_pixels(*_: object, empty: Any = ncnn.Mat) -> Any:
        return empty()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_that_there_is_no_memory_for_are_said_to_be_too_many(
    dtype: type[np.uint8] | type[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ncnn, "Mat", _NoMemory)
    with pytest.raises(OutOfMemory):
        to_mat(np.zeros((4, 5, 3), dtype))


def test_a_strip_that_there_is_no_memory_for_is_said_to_be_too_large(
    load_weights: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, span = load_weights(ANIME), cut_axis(8, 8, 0)[0]
    network = NcnnNetwork(weights.as_ncnn(), scale=4)
    features = np.zeros((64, 8, 8), np.float32)
    monkeypatch.setattr(ncnn, "Mat", _NoMemory)
    with pytest.raises(OutOfMemory):
        network._tail(None, "trunk", "out", features, Piece(span, span), np.empty((32, 32, 3), np.uint8))


# Widths of which none finds the memory of the one before to suit it; the peak is that of the widest alone.
_MANY_WIDTHS = """
import pathlib, sys
import numpy as np
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

device = choose_device("cpu", "ncnn", parallel=2, budget_bytes=int(sys.argv[2]) << 20)
engine = Engine(device, WeightStore(StoreOptions(cache=pathlib.Path(sys.argv[1]), download=False)))
models = "real-esrgan-animevideo-v3", "real-esrgan-x4-plus-anime"
for model in models:
    engine.load(model)
    engine.open_run(model, engine.plan(model, 16, 16), 8).close()
before, peak = resident(), 0
for model, widths in zip(models, (range(300, 1900, 100), range(80, 250, 24))):
    for width in widths:
        run = engine.open_run(model, engine.plan(model, width, 16), 8)
        run.feed(np.zeros((16, width, 3), np.uint8))
        while not run.done:
            run.step()
            peak = max(peak, resident() - before)
        run.close()
print(peak, resident() - before)
"""


def test_images_of_many_sizes_leave_no_more_than_the_budget_allows(tmp_path: Path) -> None:
    budget = 128
    command = [sys.executable, "-c", _MANY_WIDTHS, str(tmp_path), str(budget)]
    environment = {**os.environ, **ALLOCATOR}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150, env=environment)
    assert ended.returncode == 0, ended.stderr
    peak, left = map(int, ended.stdout.split())
    assert peak <= budget
    assert left <= budget * KEPT_SHARE
