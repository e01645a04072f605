"""Finding how to compute a network on a card: the fastest precision that keeps the promise, and in it the
fastest form.

The promise: within 2 of 255 for all but one in 10,000 values, and above 55 dB, against fp32. It is checked
on a picture when the network is loaded. bf16 has fp16's speed and fp32's range, but three bits less than
fp16, so what fp16 cannot hold mostly goes to fp32.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from upscaled_server.engine.backends.cuda.forms import Form, ModuleForm
from upscaled_server.engine.backends.cuda.fused import from_integers, to_planes
from upscaled_server.engine.backends.cuda.lane import Lane, cuda
from upscaled_server.engine.backends.torch_backend import is_out_of_memory
from upscaled_server.engine.device import Precision
from upscaled_server.errors import ProcessingFailed

log = logging.getLogger("upscaled_server.engine")

DTYPES: dict[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
_ORDER: tuple[Precision, ...] = ("fp16", "bf16", "fp32")

_LARGEST = 2.0
_BEYOND_SHARE = 1e-4
_PSNR = 55.0

_PICTURE = 96
# For timing: large enough to fill a card.
_TIMED_PICTURE = 256
_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A form that a network can be computed in. `make` may fail where something is missing."""

    name: str
    make: Callable[[torch.dtype], Form]
    recordable: bool = True
    """Whether it can be recorded as a graph: it does nothing but launch kernels."""


@dataclass(frozen=True, slots=True)
class Choice:
    form: Form
    name: str
    precision: Precision
    recordable: bool

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """In 8-bit steps against fp32. `beyond`: the share of values that differ by more than 2."""

    finite: bool
    psnr: float
    beyond: float

    @property
    def kept(self) -> bool:
        return self.finite and self.psnr > _PSNR and self.beyond <= _BEYOND_SHARE


def precisions_from(first: Precision) -> tuple[Precision, ...]:
    """This one and those to fall back to, in order."""
    return _ORDER[_ORDER.index(first) :]


def choose_form(
    candidates: Sequence[Candidate],
    module: Callable[[], Callable[[torch.Tensor], torch.Tensor]],
    precisions: Sequence[Precision],
    lane: Lane,
    *,
    multiple: int = 1,
    min_size: int = 1,
) -> Choice:
    """`module` makes the plain network in fp32 on the device: the truth. Pictures' sides
    are multiples of `multiple`, and at least `min_size`.

    Raises `ProcessingFailed` where nothing computes the network, and `OutOfMemory`.
    """

    def picture(side: int) -> torch.Tensor:
        return lane.upload([calibration_picture(math.ceil(max(side, min_size) / multiple) * multiple)])

    with lane.working():
        image = picture(_PICTURE)
        truth = planes(ModuleForm(module(), lane.device), image, torch.float32)
        for precision in precisions:
            kept = [
                choice
                for candidate in candidates
                if (choice := _checked(candidate, precision, image, truth)) is not None
            ]
            if len(kept) > 1 and lane.cuda:
                timed = picture(_TIMED_PICTURE)
                return min(kept, key=lambda choice: _seconds(choice, lane, timed))
            if kept:
                return kept[0]
    raise ProcessingFailed("the network's results are not finite on this device")


def calibration_picture(side: int) -> NDArray[np.uint8]:
    """(side, side, 3), always the same: smooth colours, textures of several sizes, edges, a little noise, and
    plain black and white. Not pure noise, which these networks blow up: there rounding the factors to fp16 is
    itself enough to break the promise, whatever the form."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    image = np.stack([x / side, y / side, (x + y) / (2 * side)], -1) * 200 + 30
    image += 25 * (np.sin(x / 5 + y / 11) * np.sin(y / 7))[..., None]
    image[(x // 19 + y // 13) % 3 == 0] *= 0.4
    image[side // 2 : side // 2 + 12, : side // 3] = 255
    image[side // 2 : side // 2 + 12, -side // 3 :] = 0
    image += rng.normal(0, 3, image.shape)
    picture: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    return picture


def planes(form: Form, image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The result before rounding, (n, 3, H, W) fp32. `image`: integers (n, h, w, 3)."""
    return to_planes(form(from_integers(image, dtype)), image)


def measure(result: torch.Tensor, truth: torch.Tensor) -> Accuracy:
    """Of values in 0..1, which are clipped as results are."""
    if not bool(torch.isfinite(result).all()):
        return Accuracy(False, 0.0, 1.0)
    difference = (result.clamp(0, 1) - truth.clamp(0, 1)).abs() * 255
    mean = float(difference.square().mean())
    psnr = math.inf if mean == 0 else 10 * math.log10(255**2 / mean)
    return Accuracy(True, psnr, float((difference > _LARGEST).float().mean()))


def _checked(
    candidate: Candidate, precision: Precision, image: torch.Tensor, truth: torch.Tensor
) -> Choice | None:
    try:
        form = candidate.make(DTYPES[precision])
        accuracy = measure(planes(form, image, DTYPES[precision]), truth)
    except Exception as error:  # whatever a compiler or a driver that does not fit may raise
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        log.warning("the form %s cannot be used here: %s: %s", candidate.name, type(error).__name__, error)
        return None
    if not accuracy.kept:
        log.info("the form %s is too coarse in %s: %s", candidate.name, precision, accuracy)
        return None
    return Choice(form, candidate.name, precision, candidate.recordable)


def _seconds(choice: Choice, lane: Lane, image: torch.Tensor) -> float:
    """The median of a few runs on the card, the first two dropped."""
    values = from_integers(image, choice.dtype)
    times = []
    for _ in range(_TIMED_RUNS + 2):
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record(lane.compute)
        choice.form(values)
        end.record(lane.compute)
        end.synchronize()
        times.append(float(start.elapsed_time(end)) / 1000)
    seconds = statistics.median(times[2:])
    log.info("the form %s in %s takes %.2f ms", choice.name, choice.precision, 1000 * seconds)
    return seconds
