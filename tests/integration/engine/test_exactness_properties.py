"""The promise of exactness over random sizes and cuts: both families, every way, both backends of a CPU.

The networks are small and their weights random, so that many cases fit; they have every part of the real
ones, and every value of their results depends on all of what it can see. The reference is plain torch, the
whole image at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.integration.engine.conftest import random_state
from tests.integration.engine.truth import Network, Photo, assert_promise, driven, rounded, whole_image

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.opening import open_planned_run
from upscaled_server.engine.planning import plan_image
from upscaled_server.engine.weights.ncnn.model import write_ncnn
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import LimitExceeded
from upscaled_server.tiling.plan import RunPlan, Way

NETWORKS: dict[str, Architecture] = {
    "compact": Compact(convs=4, features=16),
    "rrdb": Rrdb(blocks=1, features=16, growth=8),
    "rrdb of two blocks": Rrdb(blocks=2, features=12, growth=4),
    "rrdb x2": Rrdb(blocks=1, scale=2, features=16, growth=8),
}
SHARE = {"ncnn": 5e-4, "torch": 1e-4}
# Whose numbers the planner takes for each.
FAMILY = {
    "compact": "real-esrgan-animevideo-v3",
    "rrdb": "real-esrgan-x4-plus-anime",
    "rrdb of two blocks": "real-esrgan-x4-plus",
    "rrdb x2": "real-esrgan-x2-plus",
}
LONGEST = 70


@cache
def _state(name: str) -> StateDict:
    """Strong weights, so that a result depends on what is far off."""
    compact = isinstance(NETWORKS[name], Compact)
    state = random_state(NETWORKS[name])
    for tensor, values in state.items():
        if tensor.startswith("body.") and values.ndim == 4:
            values *= 2 if compact else 4
    if compact:
        del state["conv_last.bias"]
    else:
        state["conv_last.weight"] *= 20  # else the result is grey all over
    return state


@cache
def _network(name: str, backend: str) -> Network:
    architecture = NETWORKS[name]
    if backend == "torch":
        return TorchNetwork(_state(name), architecture)
    model = write_ncnn(_state(name), architecture)
    return NcnnNetwork(model, scale=architecture.scale, architecture=architecture)


@cache
def _plain(name: str) -> torch.nn.Module:
    return build_network(NETWORKS[name], _state(name))


def _whole(name: str, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return rounded(whole_image(_plain(name), NETWORKS[name], image))


def _run(
    network: Network, plan: RunPlan, image: NDArray[np.uint8], executor: ThreadPoolExecutor
) -> NDArray[Any]:
    return driven(open_planned_run(network, plan, 8, executor, lambda: None), image)


@st.composite
def _plans(draw: st.DrawFn, architecture: Architecture, way: Way, lag: int) -> RunPlan:
    """Any size from 1x1, cut anyhow, with the context that the network can see."""
    width, height = draw(st.integers(1, LONGEST)), draw(st.integers(1, LONGEST))
    multiple = architecture.multiple
    lengths = st.integers(1, LONGEST // multiple).map(lambda blocks: blocks * multiple)
    across, down = draw(lengths), draw(lengths)
    return RunPlan(
        way=way,
        width=width,
        height=height,
        scale=architecture.scale,
        tile_width=across if way == "tiles" else -(-width // multiple) * multiple,
        tile_height=height if way == "whole" else down,
        halo=lag if way == "bands" else architecture.receptive_field,
        multiple=multiple,
        parallel=draw(st.integers(1, 3)),
        threads=draw(st.integers(1, 2)),
        bytes_per_input_pixel=1,
        steps_per_band=draw(st.integers(1, 5)) if way == "bands" else 1,
        rounds_per_step=draw(st.integers(1, 3)) if way == "bands" else 1,
    )


@pytest.mark.parametrize("way", ["whole", "tiles", "bands"])
@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_and_cut_gives_the_whole_image(
    name: str, backend: str, way: Way, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    network = _network(name, backend)
    lag = network.bands().graph.lag_rows

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(_plans(NETWORKS[name], way, lag))
    @example(_one_pixel(NETWORKS[name], way, lag))
    def check(plan: RunPlan) -> None:
        image = photo(plan.width, plan.height)
        assert_promise(_run(network, plan, image, executor), _whole(name, image), share=SHARE[backend])

    check()


@st.composite
def _planned(draw: st.DrawFn, name: str, backend: str) -> RunPlan:
    """As the server plans an image: on a device of any speed, with any memory and number of cores."""
    architecture, stands_for = NETWORKS[name], FAMILY[name]
    spec = replace(
        Catalogue().resolve(stands_for),
        architecture=architecture,
        halo=architecture.receptive_field,
        seconds_per_pixel=10.0 ** -draw(st.integers(2, 7)),
    )
    assert isinstance(spec, ModelSpec)
    device = choose_device("cpu", backend, parallel=draw(st.integers(1, 4)), budget_bytes=1)
    size = draw(st.integers(1, 2 * LONGEST)), draw(st.integers(1, LONGEST))
    rows = draw(st.none() | st.integers(1, LONGEST // 2).map(lambda half: 2 * half))

    def plan(budget: int) -> RunPlan:
        return plan_image(spec, device, *size, budget_bytes=budget, parallel=device.parallel, band_rows=rows)

    try:
        # From what suffices down to where only tiles fit, or nothing does.
        found = plan(int(plan(1 << 50).needed_bytes * 2 ** -draw(st.floats(0, 7))))
    except LimitExceeded:
        reject()
    assume(found.recomputed_share < 20)
    return found


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_the_planner_chooses_gives_the_whole_image(
    name: str, backend: str, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    network, chosen = _network(name, backend), set()

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(_planned(name, backend))
    def check(plan: RunPlan) -> None:
        chosen.add(plan.way)
        image = photo(plan.width, plan.height)
        assert_promise(_run(network, plan, image, executor), _whole(name, image), share=SHARE[backend])

    check()
    # Of the others the context of one tile takes more than the bands of so narrow an image.
    assert chosen >= ({"tiles", "bands"} if name == "compact" else {"bands"})


def _one_pixel(architecture: Architecture, way: Way, lag: int) -> RunPlan:
    multiple = architecture.multiple
    halo = lag if way == "bands" else architecture.receptive_field
    return RunPlan(way, 1, 1, architecture.scale, multiple, multiple, halo, multiple, 1, 1, 1)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_with_a_quarter_of_the_context_would_be_found_out(
    name: str, backend: str, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    architecture = NETWORKS[name]
    multiple, image = architecture.multiple, photo(48, 48)
    halo = architecture.receptive_field // 4
    plan = RunPlan("tiles", 48, 48, architecture.scale, 8 * multiple, 8 * multiple, halo, multiple, 1, 1, 1)
    result = _run(_network(name, backend), plan, image, executor)
    assert (result != _whole(name, image)).mean() > SHARE[backend]
