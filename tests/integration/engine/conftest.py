"""Real weights, where they are to be had, and an independent implementation of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.integration.engine.truth import Load, Network, Networks, Truth, whole_image

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.shims import import_spandrel
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.engine.weights.store import LoadedWeights, StoreOptions, WeightStore

PACKAGED = ("real-esrgan-animevideo-v3", "real-esrgan-x4-plus-anime", "real-esrgan-x4-plus")
GENERAL = ("real-esrgan-x4-v3", "real-esrgan-x4-v3-wdn")


@pytest.fixture(scope="session")
def spandrel() -> Any:
    return import_spandrel()


@pytest.fixture(scope="session")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def random_state(architecture: Architecture, seed: int = 7) -> StateDict:
    """Weights that keep the values of a deep network in the range of an image."""
    rng = np.random.default_rng(seed)
    state: StateDict = {}
    for name, shape in architecture.shapes().items():
        if len(shape) == 4:
            spread = 0.5 / np.sqrt(shape[1] * 9)
            state[name] = rng.normal(0, spread, shape).astype(np.float32)
        elif name.endswith("weight"):
            state[name] = rng.uniform(0, 0.4, shape).astype(np.float32)
        else:
            state[name] = rng.normal(0, 0.02, shape).astype(np.float32)
    state["conv_last.bias"] = np.full(3, 0.5, np.float32)
    return state


@pytest.fixture(scope="session")
def load_weights(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], LoadedWeights]:
    """The weights of a model: real ones, and for x2-plus, which no package carries, random ones from a
    `.pth`."""
    cache: dict[str, LoadedWeights] = {}

    def load(name: str) -> LoadedWeights:
        if name not in cache:
            spec = Catalogue().resolve(name)
            folder: Path | None = None
            if name in GENERAL:
                folder = request.getfixturevalue("shared_models")
            elif name not in PACKAGED:
                folder = _random_pth(spec, tmp_path_factory.mktemp("weights"))
            options = StoreOptions(cache=tmp_path_factory.mktemp("cache"), folder=folder, download=False)
            cache[name] = WeightStore(options).load(spec)
        return cache[name]

    return load


@pytest.fixture(scope="module")
def networks(load_weights: Load) -> Iterator[Networks]:
    """Each is made once for a module of tests."""
    made: dict[tuple[str, str], Network] = {}

    def network(name: str, backend: str) -> Network:
        if (name, backend) not in made:
            weights = load_weights(name)
            architecture = weights.spec.architecture
            made[name, backend] = (
                NcnnNetwork(weights.as_ncnn(), scale=architecture.scale, architecture=architecture)
                if backend == "ncnn"
                else TorchNetwork(weights.state, architecture)
            )
        return made[name, backend]

    yield network
    for each in made.values():
        each.close()


@pytest.fixture(scope="module")
def truth(load_weights: Load) -> Truth:
    """By a model's name, what it makes of a whole image: see `whole_image`. Each image is computed once."""

    @cache
    def plain(name: str) -> torch.nn.Module:
        weights = load_weights(name)
        return build_network(weights.spec.architecture, weights.state)

    @cache
    def upscaled(
        name: str, shape: tuple[int, ...], dtype: np.dtype[Any], image: bytes
    ) -> NDArray[np.float32]:
        pixels = np.frombuffer(image, dtype).reshape(shape)
        return whole_image(plain(name), load_weights(name).spec.architecture, pixels)

    return lambda name, image: upscaled(name, image.shape, image.dtype, image.tobytes())


def _random_pth(spec: ModelSpec, folder: Path) -> Path:
    state = {name: torch.from_numpy(array) for name, array in random_state(spec.architecture).items()}
    torch.save({"params_ema": state}, folder / spec.official.name)
    return folder


@pytest.fixture
def photo() -> Callable[[int, int], np.ndarray[Any, Any]]:
    """A picture-like image of any size: gradients, edges, texture. (height, width, 3) uint8."""

    def make(width: int, height: int) -> np.ndarray[Any, Any]:
        rng = np.random.default_rng(width * 10_007 + height)
        y, x = np.mgrid[0:height, 0:width]
        image = np.stack([x * 2 % 256, y * 3 % 256, (x + y) % 256], -1).astype(np.float32)
        image[(x // 9 + y // 7) % 3 == 0] *= 0.3
        image += rng.normal(0, 12, image.shape)
        return np.clip(image, 0, 255).astype(np.uint8)

    return make
