"""On a real card: what the CPU cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.integration.engine.truth import Load, Photo, driven

from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import LoadedWeights, StoreOptions, WeightStore
from upscaled_server.tiling.cut import Piece, cut_axis
from upscaled_server.tiling.plan import RunPlan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

MODELS = ("real-esrgan-animevideo-v3", "real-esrgan-x4-plus-anime", "real-esrgan-x4-plus")


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(torch.device("cuda", torch.cuda.device_count() - 1))
    yield lane
    lane.release_memory()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    store = WeightStore(StoreOptions(cache=tmp_path, download=False))
    engine = Engine(choose_device("cuda"), store)
    yield engine
    engine.close()


def _piece(width: int, height: int) -> Piece:
    return Piece(cut_axis(width, width, 0)[0], cut_axis(height, height, 0)[0])


def _truth(weights: LoadedWeights, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    out = np.empty((4 * height, 4 * width, 3), np.uint8)
    network = TorchNetwork(weights.state, weights.spec.architecture)
    network.infer(image, _piece(width, height), out, threads=torch.get_num_threads())
    return out


def _assert_promise(found: NDArray[Any], truth: NDArray[Any]) -> None:
    difference = np.abs(found.astype(int) - truth)
    assert (difference > 2).mean() <= 1e-4
    assert 10 * np.log10(255**2 / max(1e-9, np.square(difference).mean())) > 55


@pytest.mark.parametrize("model", MODELS)
def test_half_precision_keeps_its_promise_by_launches_and_by_graph(
    model: str, lane: Lane, load_weights: Load, photo: Photo
) -> None:
    weights = load_weights(model)
    network = on_lane(weights.state, weights.spec.architecture, lane)
    assert network.precision == "fp16"
    image = photo(120, 96)
    truth = _truth(weights, image)
    for recorded in (0, 1, 1, 1):
        found = network.empty(truth.shape, truth.dtype)
        network.infer(image, _piece(120, 96), found, threads=1)
        _assert_promise(found, truth)
        assert len(network._programs.recorded) == recorded
    other = np.ascontiguousarray(image[::-1])
    network.infer(other, _piece(120, 96), found, threads=1)
    _assert_promise(found, _truth(weights, other))
    network.close()


def test_single_precision_is_not_rounded_to_tf32(lane: Lane, load_weights: Load, photo: Photo) -> None:
    weights = load_weights("real-esrgan-animevideo-v3")
    network = on_lane(weights.state, weights.spec.architecture, lane, "fp32")
    image = photo(120, 96)
    found, truth = np.empty((384, 480, 3), np.uint8), _truth(weights, image)
    network.infer(image, _piece(120, 96), found, threads=1)
    assert np.abs(found.astype(int) - truth).max() <= 1
    assert (found != truth).mean() < 5e-4
    network.close()


def test_graphs_of_many_shapes_do_not_disturb_each_other(
    lane: Lane, load_weights: Load, photo: Photo
) -> None:
    weights = load_weights("real-esrgan-animevideo-v3")
    network = on_lane(weights.state, weights.spec.architecture, lane)
    images = [photo(64 + 8 * number, 48) for number in range(11)]
    first: list[NDArray[Any]] = []
    for turn in range(4):
        for number, image in enumerate(images):
            width = image.shape[1]
            out = np.empty((192, 4 * width, 3), np.uint8)
            network.infer(image, _piece(width, 48), out, threads=1)
            if turn == 0:
                first.append(out)
            else:
                assert np.abs(out.astype(int) - first[number]).max() <= 2
    assert len(network._programs.recorded) == 8
    network.close()


def test_images_given_together_overlap_without_mixing(lane: Lane, load_weights: Load, photo: Photo) -> None:
    weights = load_weights("real-esrgan-animevideo-v3")
    network = on_lane(weights.state, weights.spec.architecture, lane)
    image = photo(640, 480)
    images = [np.roll(image, 31 * number, 1) for number in range(13)]
    outs = [network.empty((1920, 2560, 3), np.dtype(np.uint8)) for _ in images]
    piece = _piece(640, 480)
    network.infer_together([(each, piece, out) for each, out in zip(images, outs, strict=True)])
    for each, out in zip(images, outs, strict=True):
        alone = np.empty_like(out)
        network.infer(each, piece, alone, threads=1)
        _assert_promise(out, alone)
    network.close()


def test_bands_are_as_the_whole_image(engine: Engine, photo: Photo) -> None:
    engine.load("real-esrgan-x4-plus-anime")
    image = photo(200, 300)
    traits = engine.traits("real-esrgan-x4-plus-anime").bands
    assert traits is not None
    whole = engine.plan("real-esrgan-x4-plus-anime", 200, 300)
    assert whole.way == "whole"
    bands = RunPlan("bands", 200, 300, 4, 200, 64, traits.lag_rows, 1, 1, 1, 1)
    _assert_promise(_upscale(engine, bands, image), _upscale(engine, whole, image))


def test_memory_of_a_closed_network_is_given_back(lane: Lane, load_weights: Load, photo: Photo) -> None:
    weights = load_weights("real-esrgan-x4-plus-anime")
    lane.release_memory()
    before = torch.cuda.memory_reserved(lane.device)
    network = on_lane(weights.state, weights.spec.architecture, lane)
    out = np.empty((400, 400, 3), np.uint8)
    for _ in range(3):
        network.infer(photo(100, 100), _piece(100, 100), out, threads=1)
    assert torch.cuda.memory_reserved(lane.device) > before
    network.close()
    assert torch.cuda.memory_reserved(lane.device) <= before + (32 << 20)


def _upscale(engine: Engine, plan: RunPlan, image: NDArray[np.uint8]) -> NDArray[Any]:
    return driven(engine.open_run("real-esrgan-x4-plus-anime", plan, 8), image)
