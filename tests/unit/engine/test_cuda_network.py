"""The CUDA backend's decisions on a CPU lane: memory, precision, batches. Networks are small; errors of a
card are injected where a card would raise them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from upscaled_server.engine import counters
from upscaled_server.engine.architectures import Compact
from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
from upscaled_server.engine.backends.cuda.forms import ModuleForm
from upscaled_server.engine.backends.cuda.fused import PlainOps
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.backends.cuda.network import CudaNetwork, Source
from upscaled_server.engine.backends.cuda.precision import calibration_picture, measure, precisions_from
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.engine.run import PiecesRun
from upscaled_server.engine.together import step_together
from upscaled_server.errors import DeviceFailed, OutOfMemory, ProcessingFailed
from upscaled_server.tiling.plan import RunPlan

Plain = Callable[[torch.Tensor], torch.Tensor]


def _cuda_error(text: str, code: int | None = None) -> RuntimeError:
    """As torch raises it for what CUDA itself answers."""
    error = torch.AcceleratorError(f"CUDA error: {text}\nSearch for it in the manual.")
    if code is not None:
        error.error_code = code
    return error


OUT_OF_MEMORY = {
    "torch's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB"),
    "CUDA's": _cuda_error("out of memory", 2),
    "CUDA's without its code": _cuda_error("out of memory"),
    "the CPU's": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
}
"""By who says it."""


class Doubler:
    """Enlarges twice by repeating pixels. `largest`: more pixels at once are too many for the card, which is
    said by `failure`."""

    def __init__(self, largest: int | None = None, failure: RuntimeError = OUT_OF_MEMORY["torch's"]) -> None:
        self.largest = largest
        self.failure = failure
        self.batches: list[tuple[int, int, int]] = []

    def make(self, _: torch.device, dtype: torch.dtype) -> Plain:
        def compute(image: torch.Tensor) -> torch.Tensor:
            assert image.dtype == dtype
            count, _, height, width = image.shape
            if self.largest is not None and count * height * width > self.largest:
                raise self.failure
            self.batches.append((count, height, width))
            return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

        return compute

    def network(self, **options: Any) -> CudaNetwork:
        largest, self.largest = self.largest, None  # the card has room for what is computed while loading
        network = CudaNetwork(Source(self.make, 2, 1), Lane(torch.device("cpu")), **options)
        self.largest = largest
        self.batches.clear()
        return network


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def _image(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _runs(
    network: CudaNetwork, images: Sequence[NDArray[np.uint8]], executor: ThreadPoolExecutor
) -> list[PiecesRun]:
    runs = []
    for image in images:
        height, width, _ = image.shape
        run = PiecesRun(
            network, RunPlan("whole", width, height, 2, width, height, 3, 1, 1, 1, 9), 8, executor
        )
        run.feed(image)
        runs.append(run)
    return runs


def _doubled(image: NDArray[Any]) -> NDArray[Any]:
    return image.repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("failure", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_a_batch_that_is_too_large_is_halved_and_stays_so(
    failure: RuntimeError, executor: ThreadPoolExecutor
) -> None:
    doubler = Doubler(largest=400, failure=failure)
    network = doubler.network()
    images = [_image(10, 20, seed) for seed in range(8)]
    for expected in ([2, 2, 2, 2], [2, 2, 2, 2]):
        doubler.batches.clear()
        for image, rows in zip(images, step_together(_runs(network, images, executor)), strict=True):
            np.testing.assert_array_equal(rows, _doubled(image))
        assert [count for count, _, _ in doubler.batches] == expected


def test_a_piece_that_is_too_large_is_cut_in_halves(executor: ThreadPoolExecutor) -> None:
    doubler = Doubler(largest=300)
    images = [_image(20, 30, seed) for seed in range(2)]
    network = doubler.network()
    counters.take()
    for image, rows in zip(images, step_together(_runs(network, images, executor)), strict=True):
        np.testing.assert_array_equal(rows, _doubled(image))
    # Both together, one of them, again without what was only cached; then each by itself.
    assert counters.take()["out_of_memory"] >= 3
    assert max(height * width for _, height, width in doubler.batches) <= 300


def test_a_pixel_that_is_too_large_is_an_error(executor: ThreadPoolExecutor) -> None:
    (run,) = _runs(Doubler(largest=0).network(), [_image(2, 2)], executor)
    with pytest.raises(OutOfMemory):
        run.step()
    (outcome,) = step_together([run])
    assert isinstance(outcome, OutOfMemory)


@pytest.mark.parametrize("failure", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_memory_that_runs_out_is_no_failure_of_the_device(failure: RuntimeError) -> None:
    counters.take()
    with pytest.raises(OutOfMemory), Lane(torch.device("cpu")).working():
        raise failure
    assert counters.take() == {"out_of_memory": 1}


@pytest.mark.parametrize(
    "failure",
    [
        _cuda_error("an illegal memory access was encountered", 700),
        _cuda_error("unspecified launch failure"),
        _cuda_error("out of memory, says a text that means another thing", 719),
    ],
)
def test_other_errors_of_cuda_are_failures_of_the_device(failure: RuntimeError) -> None:
    with pytest.raises(DeviceFailed), Lane(torch.device("cpu")).working():
        raise failure


@pytest.mark.parametrize("failure", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_a_form_is_not_given_up_because_memory_ran_out_meanwhile(failure: RuntimeError) -> None:
    def short_of_memory(*_: Any) -> ModuleForm:
        raise failure

    source = Source(Doubler().make, 2, 1, fused=short_of_memory)
    with pytest.raises(OutOfMemory):
        CudaNetwork(source, Lane(torch.device("cpu")))


@pytest.mark.parametrize("failure", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_bands_that_ran_out_of_memory_make_room_for_lower_ones(
    failure: RuntimeError, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: Any) -> Any:
        raise failure

    architecture, made_room = Compact(convs=1, features=8), []
    state = {name: np.ones(shape, np.float32) for name, shape in architecture.shapes().items()}
    network = on_lane(state, architecture, Lane(torch.device("cpu")), "fp32")
    monkeypatch.setattr(network._lane, "make_room", lambda: made_room.append(1))
    bands = network.bands()
    monkeypatch.setattr(bands, "ops", PlainOps())
    monkeypatch.setattr(bands.ops, "join", short_of_memory)
    plan = RunPlan("bands", 8, 20, 4, 8, 8, bands.graph.lag_rows, 1, 1, 1, 1)
    run = BandsRun(bands, plan, 8, executor)
    run.feed(_image(8, 20))
    with pytest.raises(OutOfMemory):
        run.step()
    assert made_room
    run.close()


class _Streams:
    """What a lane takes of `torch.cuda`, for work that is done at once."""

    def wait_event(self, _: object) -> None:
        pass

    def record_event(self, _: object = None) -> _Streams:
        return self

    def synchronize(self) -> None:
        pass


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_come_and_go_in_ordinary_memory_where_none_can_be_locked(
    dtype: type[np.uint8] | type[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locked_memory(*args: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        if pin_memory:
            raise _cuda_error("out of memory", 2)
        return empty(*args, **options)

    empty, lane = torch.empty, Lane(torch.device("cpu"))
    lane.cuda, lane.compute, lane._up, lane._down = True, _Streams(), _Streams(), _Streams()
    monkeypatch.setattr(torch, "empty", no_locked_memory)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: None)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    image = _image(5, 4).astype(dtype) * 200
    result = lane.empty(image.shape, image.dtype)
    lane.download(lane.upload([image])[0], result)()
    np.testing.assert_array_equal(result, image)


def test_what_ran_out_of_memory_does_not_live_on_in_its_error() -> None:
    def compute(made: list[weakref.ref[torch.Tensor]]) -> None:
        partial = torch.zeros(4)
        made.append(weakref.ref(partial))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")

    made: list[weakref.ref[torch.Tensor]] = []
    lane = Lane(torch.device("cpu"))
    with pytest.raises(OutOfMemory) as failed, lane.working():
        compute(made)
    assert failed.value.__cause__ is not None
    assert made[0]() is None


def test_batches_come_in_powers_of_two_up_to_a_size(executor: ThreadPoolExecutor) -> None:
    doubler = Doubler()
    network = doubler.network()
    images = [_image(4, 4, seed) for seed in range(7)]
    step_together(_runs(network, images, executor))
    assert [count for count, _, _ in doubler.batches] == [4, 2, 1]
    network._together_pixels = 40
    doubler.batches.clear()
    step_together(_runs(network, images, executor))
    assert [count for count, _, _ in doubler.batches] == [2, 2, 2, 1]


def test_what_only_fits_fp32_falls_back_once_and_is_remembered(executor: ThreadPoolExecutor) -> None:
    overflowing = 200 / 255

    class Overflow(Doubler):
        """Bright values overflow fp16 and bf16, as they would in a layer in the middle."""

        def make(self, device: torch.device, dtype: torch.dtype) -> Plain:
            double = super().make(device, dtype)

            def compute(image: torch.Tensor) -> torch.Tensor:
                if dtype != torch.float32:
                    image = torch.where(image > overflowing, torch.inf, image)
                return double(image)

            return compute

    # Loaded with a picture that does not show it.
    doubler = Overflow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "upscaled_server.engine.backends.cuda.precision.calibration_picture",
            lambda side: np.full((side, side, 3), 100, np.uint8),
        )
        network = doubler.network()
        assert network.precision == "fp16"
    dark, bright = np.full((6, 6, 3), 90, np.uint8), np.full((6, 6, 3), 250, np.uint8)
    (run,) = _runs(network, [dark], executor)
    run.step()
    assert network.precision == "fp16"
    counters.take()
    results = step_together(_runs(network, [dark, bright], executor))
    # The picture that bf16 was tried with overflows too, so it was left out.
    assert counters.take() == {"nan_fallbacks": 1}
    np.testing.assert_array_equal(results[0], _doubled(dark))
    np.testing.assert_array_equal(results[1], _doubled(bright))
    assert network.precision == "fp32", "bf16 was tried with the usual picture and overflows too"
    (run,) = _runs(network, [dark], executor)
    run.step()
    assert network.precision == "fp32"


def test_a_network_that_is_never_finite_is_refused() -> None:
    source = Source(lambda *_: lambda image: torch.full_like(image, torch.nan), 1, 1)
    with pytest.raises(ProcessingFailed, match="finite"):
        CudaNetwork(source, Lane(torch.device("cpu")))


def test_a_network_that_cannot_compute_in_halves_is_not_asked_to() -> None:
    doubler = Doubler()
    source = Source(doubler.make, 2, 1, precisions=("bf16", "fp32"))
    assert CudaNetwork(source, Lane(torch.device("cpu"))).precision == "bf16"
    assert precisions_from("bf16") == ("bf16", "fp32")


def test_a_form_that_fails_leaves_it_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> ModuleForm:
        raise FileNotFoundError("no C compiler")

    doubler = Doubler()
    network = CudaNetwork(Source(doubler.make, 2, 1, fused=broken), Lane(torch.device("cpu")))
    assert network.precision == "fp16"
    assert "no C compiler" in caplog.text


def test_an_unloaded_network_refuses_work(executor: ThreadPoolExecutor) -> None:
    network = Doubler().network()
    (run,) = _runs(network, [_image(4, 4)], executor)
    network.close()
    network.close()
    with pytest.raises(ProcessingFailed, match="unloaded"):
        run.step()


def test_accuracy_is_that_of_the_promise() -> None:
    truth = torch.full((1, 3, 100, 100), 0.5)
    result = truth.clone()
    assert measure(result, truth).kept
    result[0, 0, 0, :3] += 2.5 / 255
    found = measure(result, truth)
    assert found.beyond == pytest.approx(1e-4)
    assert found.kept
    result[0, 0, 0, 3] += 2.5 / 255
    assert not measure(result, truth).kept
    assert not measure(truth + 0.6 / 255, truth).kept, "within 2, but below 55 dB"
    assert not measure(torch.full_like(truth, torch.nan), truth).kept
    assert measure(truth + 1 - 0.5, torch.ones_like(truth) * 2).kept, "results are clipped"


def test_the_picture_for_calibration_is_always_the_same() -> None:
    picture = calibration_picture(96)
    assert picture.shape == (96, 96, 3)
    np.testing.assert_array_equal(picture, calibration_picture(96))
    assert picture.min() == 0
    assert picture.max() == 255
