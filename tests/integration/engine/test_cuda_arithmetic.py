"""The forms, batches and bands of the CUDA backend, computed on the CPU, which does the same arithmetic."""

from __future__ import annotations

import functools
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.integration.engine.conftest import random_state
from tests.integration.engine.truth import Load, Photo, driven

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
from upscaled_server.engine.backends.cuda.fused import PlainOps
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.backends.cuda.network import CudaNetwork
from upscaled_server.engine.backends.torch_backend import TorchNetwork
from upscaled_server.engine.bands import cuda_bands
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.engine.run import PiecesRun
from upscaled_server.engine.together import step_together
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.tiling.bands import lower_bands
from upscaled_server.tiling.cut import Piece, cut_axis
from upscaled_server.tiling.plan import RunPlan

# Deep enough for everything that the real ones have: several blocks, both unshuffles, all layers.
NETWORKS: dict[str, Architecture] = {
    "compact": Compact(convs=3, features=16),
    "compact of no power of two": Compact(convs=2, features=12, scale=3),
    "rrdb": Rrdb(blocks=2, features=16, growth=8),
    "rrdb x2": Rrdb(blocks=1, scale=2, features=16, growth=8),
}


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request: pytest.FixtureRequest) -> tuple[CudaNetwork, TorchNetwork]:
    """The network on a lane in fp32, and the CPU backend's."""
    architecture = NETWORKS[request.param]
    state = _state(architecture)
    network = on_lane(state, architecture, Lane(torch.device("cpu")), "fp32")
    assert network.precision == "fp32"
    return network, TorchNetwork(state, architecture)


def _state(architecture: Architecture) -> dict[str, Any]:
    state = random_state(architecture)
    if isinstance(architecture, Compact):
        del state["conv_last.bias"]
    else:
        state["conv_last.weight"] *= 20  # else the result is grey all over
    return state


def _piece(image: NDArray[Any], network: CudaNetwork) -> Piece:
    multiple = 2 if network.scale == 2 else 1
    height, width, _ = image.shape
    (across,), (down,) = cut_axis(width, width, 0, multiple), cut_axis(height, height, 0, multiple)
    return Piece(across, down)


def _plan(network: CudaNetwork, image: NDArray[Any], rows: int | None = None, **changes: int) -> RunPlan:
    height, width, _ = image.shape
    multiple = 2 if network.scale == 2 else 1
    numbers = {"parallel": 1, "threads": 1, "halo": 0} | changes
    return RunPlan(
        way="whole" if rows is None else "bands",
        width=width,
        height=height,
        scale=network.scale,
        tile_width=width,
        tile_height=rows or height,
        multiple=multiple,
        bytes_per_input_pixel=1,
        **numbers,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [3, 1])
def test_a_piece_is_as_the_cpu_backend_computes_it(
    pair: tuple[CudaNetwork, TorchNetwork], photo: Photo, dtype: Any, planes: int
) -> None:
    network, plain = pair
    image = photo(23, 18).astype(dtype) * (257 if dtype == np.uint16 else 1)
    piece = _piece(image, network)
    for out_type in (np.uint8, np.uint16):
        shape = (18 * network.scale, 23 * network.scale, planes)
        found, truth = np.empty(shape, out_type), np.empty(shape, out_type)
        network.infer(image, piece, found, threads=1)
        plain.infer(image, piece, truth, threads=1)
        assert truth.std() > 1
        assert np.abs(found.astype(int) - truth).max() <= 1
        assert (found != truth).mean() < (1e-3 if out_type == np.uint8 else 0.2)


def test_images_of_one_shape_stepped_together_are_as_each_by_itself(
    pair: tuple[CudaNetwork, TorchNetwork], photo: Photo, executor: ThreadPoolExecutor
) -> None:
    network, _ = pair
    images = [photo(20, 14), photo(20, 14)[::-1], photo(20, 14)[:, ::-1]]
    runs = [PiecesRun(network, _plan(network, image), 8, executor) for image in images]
    assert {run.batch_key for run in runs} == {None}, "nothing has been fed yet"
    for run, image in zip(runs, images, strict=True):
        run.feed(image)
    assert len({run.batch_key for run in runs} - {None}) == 1
    together = step_together(runs)
    for image, rows, run in zip(images, together, runs, strict=True):
        alone = PiecesRun(network, _plan(network, image), 8, executor)
        alone.feed(image)
        np.testing.assert_array_equal(rows, alone.step())
        assert run.done
        assert run.batch_key is None


def test_runs_with_different_keys_are_not_stepped_together(
    pair: tuple[CudaNetwork, TorchNetwork], photo: Photo, executor: ThreadPoolExecutor
) -> None:
    network, _ = pair
    runs = [
        PiecesRun(network, _plan(network, image), 8, executor) for image in (photo(20, 14), photo(20, 16))
    ]
    for run, image in zip(runs, (photo(20, 14), photo(20, 16)), strict=True):
        run.feed(image)
    with pytest.raises(ProcessingFailed, match="together"):
        step_together(runs)
    assert len(runs[0].step()) == 14 * network.scale, "a refusal changes nothing"


@pytest.mark.parametrize("fault", ["fails", "is coarse"])
def test_bands_do_without_fused_passes_that_were_found_wanting(
    photo: Photo, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    class Wanting(PlainOps):
        def join(self, *args: Any, **options: Any) -> torch.Tensor:
            if fault == "fails":
                raise RuntimeError("no kernel for this shape")
            return super().join(*args, **options) * 0.9

    architecture = NETWORKS["rrdb"]
    state, image = _state(architecture), photo(17, 53)
    monkeypatch.setattr("upscaled_server.engine.backends.cuda.network.fused_ops", lambda _: Wanting())
    network = on_lane(state, architecture, Lane(torch.device("cpu")), "fp32")
    assert network.form == "module"
    bands = network.bands()
    result = driven(BandsRun(bands, _plan(network, image, 6, halo=bands.graph.lag_rows), 8, executor), image)
    truth = np.empty((53 * network.scale, 17 * network.scale, 3), np.uint8)
    TorchNetwork(state, architecture).infer(image, _piece(image, network), truth, threads=1)
    assert np.abs(result.astype(int) - truth).max() <= 1


@pytest.mark.parametrize("rows", [2, 6, 26, 100])
def test_bands_are_as_the_whole_image(
    pair: tuple[CudaNetwork, TorchNetwork], photo: Photo, executor: ThreadPoolExecutor, rows: int
) -> None:
    network, plain = pair
    image = photo(17, 53)
    bands = network.bands()
    plan = _plan(network, image, rows, halo=bands.graph.lag_rows, steps_per_band=3 if rows > 50 else 1)
    run = BandsRun(bands, plan, 8, executor)
    assert run.batch_key is None
    result = driven(run, image)
    truth = np.empty((53 * network.scale, 17 * network.scale, 3), np.uint8)
    plain.infer(image, _piece(image, network), truth, threads=1)
    assert np.abs(result.astype(int) - truth).max() <= 1
    assert (result != truth).mean() < 1e-3


def test_bands_that_find_no_memory_give_back_what_is_cached_and_hold_nothing(
    photo: Photo, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = NETWORKS["compact"]
    lane = Lane(torch.device("cpu"))
    network, other = (on_lane(_state(architecture), architecture, lane, "fp32") for _ in range(2))
    image = photo(17, 53)
    conv2d, given_back = cuda_bands.F.conv2d, list[CudaNetwork]()
    made: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def convolved(source: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if source.shape[2] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
        result = conv2d(source, *arguments, **options)
        made.add(result)
        return result

    monkeypatch.setattr(cuda_bands.F, "conv2d", convolved)
    for each in (network, other):
        monkeypatch.setattr(each._programs, "clear", functools.partial(given_back.append, each))
    plan = _plan(network, image, 32, halo=network.bands().graph.lag_rows)
    run = BandsRun(network.bands(), plan, 8, executor)
    run.feed(image)
    with pytest.raises(OutOfMemory) as failed:
        run.step()
    assert set(given_back) == {network, other}
    run.close()
    assert failed.value is not None
    assert run.state_bytes == 0
    assert not made

    lower = lower_bands(plan)
    assert lower is not None
    result = driven(BandsRun(network.bands(), lower, 8, executor), image)
    monkeypatch.undo()
    whole = driven(PiecesRun(network, _plan(network, image), 8, executor), image)
    assert np.abs(result.astype(int) - whole).max() <= 1


def test_half_precision_keeps_its_promise_on_real_weights(load_weights: Load, photo: Photo) -> None:
    weights = load_weights("real-esrgan-animevideo-v3")
    network = on_lane(weights.state, weights.spec.architecture, Lane(torch.device("cpu")), "fp16")
    assert network.precision == "fp16"
    image = photo(40, 32)
    found, truth = np.empty((128, 160, 3), np.uint8), np.empty((128, 160, 3), np.uint8)
    network.infer(image, _piece(image, network), found, threads=1)
    TorchNetwork(weights.state, weights.spec.architecture).infer(
        image, _piece(image, network), truth, threads=1
    )
    difference = np.abs(found.astype(int) - truth)
    assert difference.max() > 0, "computed in fp32?"
    assert (difference > 2).mean() <= 1e-4
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 55
