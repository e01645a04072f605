"""The promise of exactness: however an image is cut, and whichever backend runs it, every 8-bit value is
within 1 of the whole image in torch fp32, and fewer than 5e-4 of them differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.integration.engine.truth import (
    ANIME,
    GENERAL,
    VIDEO,
    X2,
    X4,
    Load,
    Networks,
    Photo,
    Truth,
    assert_promise,
    driven,
    rounded,
)

from upscaled_server.engine.backends.base import LoadedNetwork
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.run import Bits, PiecesRun
from upscaled_server.engine.weights.store import LoadedWeights, StoreOptions, WeightStore
from upscaled_server.errors import FailedPrecondition
from upscaled_server.tiling.plan import RunPlan


def _run(
    network: LoadedNetwork, plan: RunPlan, image: NDArray[Any], executor: ThreadPoolExecutor, bits: Bits = 8
) -> NDArray[Any]:
    result = driven(PiecesRun(network, plan, bits, executor), image)
    assert result.dtype == (np.uint8 if bits == 8 else np.uint16)
    return result


def _plan(weights: LoadedWeights, width: int, height: int, tile: tuple[int, int], **changes: Any) -> RunPlan:
    spec = weights.spec
    return replace(
        RunPlan("tiles", width, height, spec.scale, *tile, spec.halo, spec.multiple, 2, 1, 1),
        **changes,
    )


SIZES_AND_TILES = [
    ((1, 1), (2, 2)),
    ((1, 37), (2, 8)),
    ((41, 1), (8, 2)),
    ((2, 3), (2, 2)),
    ((31, 53), (32, 16)),
    ((61, 47), (20, 48)),
]


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize(
    ("name", "size", "tile"),
    [
        *((name, *sizes) for name in (VIDEO, X2) for sizes in SIZES_AND_TILES),
        # Tiles with neighbours on all four sides; those of X2 see all of the image.
        (VIDEO, (97, 89), (38, 30)),
    ],
)
def test_odd_sizes_keep_the_promise(
    name: str,
    backend: str,
    size: tuple[int, int],
    tile: tuple[int, int],
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(name), photo(*size)
    expected = rounded(truth(name, image))
    network = networks(name, backend)
    share = 5e-4 if backend == "ncnn" else 1e-4
    for cut in (size, tile):
        assert_promise(_run(network, _plan(weights, *size, cut), image, executor), expected, share=share)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
def test_dense_networks_keep_the_promise_in_tiles(
    backend: str,
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(ANIME), photo(151, 41)
    expected = rounded(truth(ANIME, image))
    plan = _plan(weights, 151, 41, (40, 41), parallel=1, threads=2)
    assert_promise(_run(networks(ANIME, backend), plan, image, executor), expected)


def test_the_largest_network_keeps_the_promise(
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image = load_weights(X4), photo(150, 24)
    expected = rounded(truth(X4, image))
    plan = _plan(weights, 150, 24, (30, 24), parallel=1, threads=2)
    assert_promise(_run(networks(X4, "ncnn"), plan, image, executor), expected)


@pytest.mark.parametrize("name", [VIDEO, GENERAL])
def test_real_photos_keep_the_promise_in_strips(
    name: str,
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    shared_images: Path,
    executor: ThreadPoolExecutor,
) -> None:
    image = np.asarray(Image.open(shared_images / "OST_009.png").convert("RGB"))[100:308, 40:290]
    weights = load_weights(name)
    plan = _plan(weights, 250, 208, (250, 52))
    assert_promise(_run(networks(name, "ncnn"), plan, image, executor), rounded(truth(name, image)))


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("bits", [8, 16])
def test_sixteen_bits_go_in_and_come_out(
    backend: str,
    bits: Bits,
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights = load_weights(VIDEO)
    image = photo(40, 30).astype(np.uint16) * 257 + 3
    expected = rounded(truth(VIDEO, image), bits)
    result = _run(networks(VIDEO, backend), _plan(weights, 40, 30, (40, 15)), image, executor, bits)
    # One part in 255 of the range is 257 in 16 bits; the rounding of the arithmetic is far below.
    assert np.abs(result.astype(np.float64) - expected).max() <= (1 if bits == 8 else 4)


def test_a_run_gives_the_same_bytes_every_time(
    load_weights: Load,
    networks: Networks,
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
    assert len(driven(run, image)) == 800
    assert engine.unload(VIDEO)
    assert not engine.unload(VIDEO)
    engine.close()
