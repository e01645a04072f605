"""The promise of exactness: however an image is cut, and whichever backend runs it, every 8-bit value is
within 1 of the whole image in torch fp32, and fewer than 5e-4 of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.engine.backends.base import LoadedNetwork
from upscaled_server.engine.backends.ncnn_backend import NcnnNetwork
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.run import Bits, PiecesRun
from upscaled_server.engine.weights.store import LoadedWeights, StoreOptions, WeightStore
from upscaled_server.errors import FailedPrecondition
from upscaled_server.tiling.plan import RunPlan

Load = Callable[[str], LoadedWeights]
Photo = Callable[[int, int], NDArray[np.uint8]]
VIDEO, ANIME, X4, X2 = (
    "real-esrgan-animevideo-v3",
    "real-esrgan-x4-plus-anime",
    "real-esrgan-x4-plus",
    "real-esrgan-x2-plus",
)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def networks(load_weights: Load) -> Callable[[str, str], LoadedNetwork]:
    cache: dict[tuple[str, str], LoadedNetwork] = {}

    def get(name: str, backend: str) -> LoadedNetwork:
        if (name, backend) not in cache:
            weights = load_weights(name)
            cache[name, backend] = (
                NcnnNetwork(weights.as_ncnn(), scale=weights.spec.scale)
                if backend == "ncnn"
                else TorchNetwork(weights.state, weights.spec.architecture)
            )
        return cache[name, backend]

    return get


def _whole_in_torch(weights: LoadedWeights, image: NDArray[Any], bits: int = 8) -> NDArray[Any]:
    """The reference: plain torch, the whole image at once, padded to the multiple as upstream does."""
    multiple = weights.spec.multiple
    height, width, _ = image.shape
    if height % multiple:
        image = np.concatenate([image, image[-2:-1] if height > 1 else image])
    if width % multiple:
        image = np.concatenate([image, image[:, -2:-1] if width > 1 else image], 1)
    tensor = torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None]
    with torch.inference_mode():
        planes = build_network(weights.spec.architecture, weights.state)(tensor)[0]
    scale, full = weights.spec.scale, 2**bits - 1
    result: NDArray[Any] = np.floor(np.clip(planes.permute(1, 2, 0).numpy(), 0, 1) * full + 0.5)
    return result[: height * scale, : width * scale]


def _run(
    network: LoadedNetwork, plan: RunPlan, image: NDArray[Any], executor: ThreadPoolExecutor, bits: Bits = 8
) -> NDArray[Any]:
    run = PiecesRun(network, plan, bits, executor)
    rows, fed = [], 0
    while not run.done:
        wanted = run.rows_wanted
        run.feed(image[fed : fed + wanted])
        fed += wanted
        rows.append(run.step())
    run.close()
    result = np.concatenate(rows)
    assert result.dtype == (np.uint8 if bits == 8 else np.uint16)
    return result.astype(np.float64)


def _plan(weights: LoadedWeights, width: int, height: int, tile: tuple[int, int], **changes: Any) -> RunPlan:
    spec = weights.spec
    return replace(
        RunPlan("tiles", width, height, spec.scale, *tile, spec.halo, spec.multiple, 2, 1, 1),
        **changes,
    )


def _assert_promise(result: NDArray[Any], expected: NDArray[Any], *, share: float = 5e-4) -> None:
    assert result.shape == expected.shape
    difference = np.abs(result - expected)
    assert difference.max() <= 1
    # In a small image a single value is more than the share.
    assert (difference > 0).sum() <= max(2, share * difference.size)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("name", [VIDEO, X2])
@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((1, 1), (2, 2)),
        ((1, 37), (2, 8)),
        ((41, 1), (8, 2)),
        ((2, 3), (2, 2)),
        ((31, 53), (32, 16)),
        ((61, 47), (20, 48)),
        ((97, 89), (38, 30)),
    ],
)
def test_odd_sizes_keep_the_promise(
    name: str,
    backend: str,
    size: tuple[int, int],
    tile: tuple[int, int],
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(name), photo(*size)
    expected = _whole_in_torch(weights, image)
    network = networks(name, backend)
    share = 5e-4 if backend == "ncnn" else 1e-4
    for cut in (size, tile):
        _assert_promise(_run(network, _plan(weights, *size, cut), image, executor), expected, share=share)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
def test_dense_networks_keep_the_promise_in_tiles(
    backend: str,
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(ANIME), photo(151, 97)
    expected = _whole_in_torch(weights, image)
    plan = _plan(weights, 151, 97, (40, 97), parallel=1, threads=2)
    _assert_promise(_run(networks(ANIME, backend), plan, image, executor), expected)


def test_the_largest_network_keeps_the_promise(
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(X4), photo(150, 24)
    expected = _whole_in_torch(weights, image)
    plan = _plan(weights, 150, 24, (30, 24), parallel=1, threads=2)
    _assert_promise(_run(networks(X4, "ncnn"), plan, image, executor), expected)


@pytest.mark.parametrize("name", [VIDEO, "real-esrgan-x4-v3"])
def test_real_photos_keep_the_promise_in_strips(
    name: str,
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    shared_images: Path,
    executor: ThreadPoolExecutor,
) -> None:
    image = np.asarray(Image.open(shared_images / "OST_009.png").convert("RGB"))[100:308, 40:290]
    weights = load_weights(name)
    plan = _plan(weights, 250, 208, (250, 52))
    _assert_promise(_run(networks(name, "ncnn"), plan, image, executor), _whole_in_torch(weights, image))


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("bits", [8, 16])
def test_sixteen_bits_go_in_and_come_out(
    backend: str,
    bits: Bits,
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights = load_weights(VIDEO)
    image = photo(40, 30).astype(np.uint16) * 257 + 3
    expected = _whole_in_torch(weights, image, bits)
    result = _run(networks(VIDEO, backend), _plan(weights, 40, 30, (40, 15)), image, executor, bits)
    # One part in 255 of the range is 257 in 16 bits; the rounding of the arithmetic is far below.
    assert np.abs(result - expected).max() <= (1 if bits == 8 else 4)


def test_a_run_gives_the_same_bytes_every_time(
    load_weights: Load,
    networks: Callable[[str, str], LoadedNetwork],
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(VIDEO), photo(83, 71)
    plan = _plan(weights, 83, 71, (83, 18))
    first, second = (_run(networks(VIDEO, "ncnn"), plan, image, executor) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
def test_the_engine_runs_an_image_from_plan_to_rows(backend: Any, tmp_path: Path, photo: Photo) -> None:
    engine = Engine(
        choose_device("cpu", backend, parallel=2), WeightStore(StoreOptions(cache=tmp_path, download=False))
    )
    with pytest.raises(FailedPrecondition):
        engine.provenance(VIDEO)
    provenance = engine.load("realesr-animevideov3")
    assert (provenance.model, provenance.backend, provenance.precision) == (VIDEO, backend, "fp32")
    assert provenance.weights.verified
    assert engine.loaded == (VIDEO,)
    image = photo(120, 200)
    plan = engine.plan(VIDEO, 120, 200)
    run = engine.open_run(VIDEO, plan, 8)
    with pytest.raises(FailedPrecondition, match="in use"):
        engine.unload(VIDEO)
    rows = 0
    fed = 0
    while not run.done:
        wanted = run.rows_wanted
        run.feed(image[fed : fed + wanted])
        fed += wanted
        rows += run.step().shape[0]
    run.close()
    assert rows == 800
    assert engine.unload(VIDEO)
    assert not engine.unload(VIDEO)
    engine.close()
