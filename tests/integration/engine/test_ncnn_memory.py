"""Memory of ncnn's pools outlives the network that it was taken for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from tests.integration.engine.truth import VIDEO, Load

from upscaled_server.engine.backends import ncnn_memory
from upscaled_server.engine.backends.ncnn_memory import borrow_pool, give_back_pool
from upscaled_server.engine.bands.ncnn_bands import NcnnBands

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


def test_a_pool_goes_to_the_next_network(load_weights: Load) -> None:
    weights = load_weights(VIDEO)
    pools = set()
    for _ in range(5):
        bands = NcnnBands(weights.as_ncnn(), weights.spec.architecture)
        pools.add(id(bands.allocator))
        bands.close()
        bands.close()
    assert len(pools) == 1
    assert len({id(each) for each in ncnn_memory._unused}) == len(ncnn_memory._unused)


def test_networks_that_live_together_have_pools_of_their_own() -> None:
    pools = [borrow_pool() for _ in range(3)]
    assert len({id(each) for each in pools}) == 3
    threads = [threading.Thread(target=give_back_pool, args=(each,)) for each in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(each) for each in pools} <= {id(each) for each in ncnn_memory._unused}
