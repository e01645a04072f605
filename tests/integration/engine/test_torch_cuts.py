"""torch on a CPU: however an image is cut, hardly a value differs from the whole image in the same layout.

The plain network keeps channels apart (NCHW), where the backend interleaves them (channels-last). There the
sums of a convolution are added up in another order, so against the plain network up to 4e-5 of the 8-bit
values differ by 1, whole image or not. In one layout every row is added up in the same way in every cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.opening import open_planned_run
from upscaled_server.engine.weights.store import LoadedWeights
from upscaled_server.tiling.plan import RunPlan, Way

Load = Callable[[str], LoadedWeights]
Photo = Callable[[int, int], NDArray[np.uint8]]
MODELS = (
    "real-esrgan-animevideo-v3",
    "real-esrgan-x4-v3",
    "real-esrgan-x4-plus-anime",
    "real-esrgan-x2-plus",
)
SHARE = 1e-5


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def _whole(weights: LoadedWeights, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The plain network on the whole image, channels-last."""
    network = build_network(weights.spec.architecture, weights.state).to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        planes = network(tensor.contiguous(memory_format=torch.channels_last))[0]
    values: NDArray[np.uint8] = (planes.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
    return values


def _cut(
    weights: LoadedWeights, image: NDArray[np.uint8], way: Way, rows: int, executor: ThreadPoolExecutor
) -> NDArray[Any]:
    spec, (height, width, _) = weights.spec, image.shape
    network = TorchNetwork(weights.state, spec.architecture)
    context = network.bands().graph.lag_rows if way == "bands" else spec.architecture.receptive_field
    plan = RunPlan(way, width, height, spec.scale, width, rows, context, spec.multiple, 1, 2, 1)
    run = open_planned_run(network, plan, 8, executor, lambda: None)
    fed, results = 0, []
    while not run.done:
        wanted = run.rows_wanted
        run.feed(image[fed : fed + wanted])
        fed += wanted
        results.append(run.step())
    run.close()
    network.close()
    return np.concatenate(results)


def _assert_hardly_differs(result: NDArray[Any], whole: NDArray[Any]) -> None:
    difference = np.abs(result.astype(int) - whole)
    assert difference.max() <= 1
    # Of a small image a single value is more than the share.
    assert (difference > 0).sum() <= max(1, SHARE * difference.size)


@pytest.mark.parametrize("way", ["bands", "tiles"])
@pytest.mark.parametrize("name", MODELS)
def test_every_cut_gives_the_whole_image(
    name: str, way: Way, load_weights: Load, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    weights = load_weights(name)
    image = photo(96, 80) if name in MODELS[:2] else photo(48, 40)
    whole = _whole(weights, image)
    for rows in (8, 20):
        _assert_hardly_differs(_cut(weights, image, way, rows, executor), whole)


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
    _assert_hardly_differs(result, _whole(weights, image))
