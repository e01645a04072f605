"""Whole networks and their bands with Triton's kernels equal those with the plain operations; without a card,
in Triton's interpreter where it is installed."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.integration.engine.conftest import random_state
from tests.integration.engine.truth import Photo, driven

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
from upscaled_server.engine.backends.cuda.fused import Ops, PlainOps
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.engine.run import PiecesRun
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.tiling.plan import RunPlan

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="no GPU build of torch, so no Triton; `make kernels` brings it",
    ),
    # Its interpreter rounds what lies outside of the image too, which is then left out.
    pytest.mark.filterwarnings("ignore:invalid value encountered in cast"),
]

NETWORKS: dict[str, Architecture] = {
    "compact": Compact(convs=2, features=16),
    "compact of no power of two": Compact(convs=1, features=12, scale=3),
    "rrdb": Rrdb(blocks=1, features=16, growth=8),
    "rrdb x2": Rrdb(blocks=1, scale=2, features=16, growth=8),
}
WIDTH, HEIGHT = 16, 24


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("rows", [None, 6], ids=["whole", "bands"])
def test_a_network_is_as_with_the_plain_operations(
    architecture: Architecture,
    rows: int | None,
    photo: Photo,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from upscaled_server.engine.backends.cuda.triton_kernels import TritonOps

    counted: list[str] = []

    class Counting(TritonOps):
        def join(self, *args: Any, **options: Any) -> torch.Tensor:
            counted.append("join")
            return super().join(*args, **options)

    state, image = random_state(architecture), photo(WIDTH, HEIGHT)
    if isinstance(architecture, Compact):
        del state["conv_last.bias"]
    else:
        state["conv_last.weight"] *= 20  # else the result is grey all over

    def result(ops: Ops) -> NDArray[Any]:
        monkeypatch.setattr("upscaled_server.engine.backends.cuda.network.fused_ops", lambda _: ops)
        return _result(state, architecture, rows, image, executor)

    expected, found = result(PlainOps()), result(Counting())
    assert counted
    assert expected.std() > 1
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 1e-3


def _result(
    state: StateDict,
    architecture: Architecture,
    rows: int | None,
    image: NDArray[Any],
    executor: ThreadPoolExecutor,
) -> NDArray[Any]:
    network = on_lane(state, architecture, Lane(torch.device("cpu")), "fp32")
    assert network.form == "fused"
    plan = RunPlan(
        way="whole" if rows is None else "bands",
        width=WIDTH,
        height=HEIGHT,
        scale=architecture.scale,
        tile_width=WIDTH,
        tile_height=rows or HEIGHT,
        halo=0 if rows is None else network.bands().graph.lag_rows,
        multiple=architecture.multiple,
        parallel=1,
        threads=1,
        bytes_per_input_pixel=1,
    )
    run = (
        PiecesRun(network, plan, 8, executor)
        if rows is None
        else BandsRun(network.bands(), plan, 8, executor)
    )
    return driven(run, image)
