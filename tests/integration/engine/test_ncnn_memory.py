"""Memory of ncnn's pools outlives the network that it was taken for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.engine.truth import VIDEO

from upscaled_server.engine.working_memory import KEPT_SHARE
from upscaled_server.pool.supervisor import ALLOCATOR

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
