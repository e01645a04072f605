"""torch on a CPU: however an image is cut, hardly a value differs from the whole image in the same layout.

The plain network keeps channels apart (NCHW), where the backend interleaves them (channels-last). There the
sums of a convolution are added up in another order, so against the plain network up to 4e-5 of the 8-bit
values differ by 1, whole image or not. In one layout every row is added up in the same way in every cut.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.integration.engine.truth import (
    ANIME,
    GENERAL,
    VIDEO,
    X2,
    Load,
    Photo,
    assert_promise,
    driven,
    rounded,
    whole_image,
)

from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.opening import open_planned_run
from upscaled_server.engine.weights.store import LoadedWeights
from upscaled_server.tiling.plan import RunPlan, Way

MODELS = (VIDEO, GENERAL, ANIME, X2)
SHARE = 1e-5


def _whole(weights: LoadedWeights, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The plain network on the whole image, channels-last."""
    architecture, layout = weights.spec.architecture, torch.channels_last
    network = build_network(architecture, weights.state).to(memory_format=layout)
    return rounded(whole_image(network, architecture, image, layout))


def _cut(
    weights: LoadedWeights, image: NDArray[np.uint8], way: Way, rows: int, executor: ThreadPoolExecutor
) -> NDArray[Any]:
    spec, (height, width, _) = weights.spec, image.shape
    network = TorchNetwork(weights.state, spec.architecture)
    context = network.bands().graph.lag_rows if way == "bands" else spec.architecture.receptive_field
    plan = RunPlan(way, width, height, spec.scale, width, rows, context, spec.multiple, 1, 2, 1)
    result = driven(open_planned_run(network, plan, 8, executor, lambda: None), image)
    network.close()
    return result


@pytest.mark.parametrize("way", ["bands", "tiles"])
@pytest.mark.parametrize("name", MODELS)
def test_every_cut_gives_the_whole_image(
    name: str, way: Way, load_weights: Load, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    weights = load_weights(name)
    image = photo(96, 80) if name in MODELS[:2] else photo(48, 40)
    whole = _whole(weights, image)
    for rows in (8, 20):
        assert_promise(_cut(weights, image, way, rows, executor), whole, share=SHARE, few=1)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 70), st.integers(1, 90), st.integers(1, 40), st.sampled_from(["bands", "tiles"]))
def test_any_size_and_cut_gives_the_whole_image(
    load_weights: Load,
    photo: Photo,
    executor: ThreadPoolExecutor,
    width: int,
    height: int,
    rows: int,
    way: Way,
) -> None:
    weights, image = load_weights(MODELS[0]), photo(width, height)
    result = _cut(weights, image, way, min(rows, height), executor)
    assert_promise(result, _whole(weights, image), share=SHARE, few=1)
