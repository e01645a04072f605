"""A network on a CUDA card: `LoadedNetwork`, with pieces of equal shape computed together."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscaled_server.engine import counters
from upscaled_server.engine.backends.base import Job, pad_piece
from upscaled_server.engine.backends.cuda.forms import Form, ModuleForm
from upscaled_server.engine.backends.cuda.fused import Epilogue, Ops, PlainOps, Raw, from_integers
from upscaled_server.engine.backends.cuda.lane import Lane
from upscaled_server.engine.backends.cuda.precision import Candidate, Choice, choose_form, precisions_from
from upscaled_server.engine.backends.cuda.programs import Programs
from upscaled_server.engine.backends.torch_backend import is_out_of_memory
from upscaled_server.engine.device import Precision
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.cut import Piece

if TYPE_CHECKING:
    from upscaled_server.engine.bands.cuda_bands import CudaBands

log = logging.getLogger("upscaled_server.engine")

# Pieces are computed together up to this many pixels; with more in one launch a card gains nothing.
_TOGETHER_PIXELS = 1 << 20

# Groups that are on their way at a time: while one is computed, the next one comes up and the last goes down.
_IN_FLIGHT = 2

_numbers = itertools.count(1)

FUSED = "fused"

Plain = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Source:
    """What a network can be made from, again for each precision. `module` gives it as it is, on a device in a
    type; `fused` the form with fused passes, for an architecture that has one. `recordable`: whether it does
    nothing but launch kernels, so that a graph can hold it."""

    module: Callable[[torch.device, torch.dtype], Plain]
    scale: int
    multiple: int
    min_size: int = 1
    precisions: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    fused: Callable[[Ops, torch.device, torch.dtype], Form] | None = None
    recordable: bool = True


class CudaNetwork:
    """See `LoadedNetwork`, `Batching` and `OwnMemory`."""

    backend = "torch"

    def __init__(
        self,
        source: Source,
        lane: Lane,
        *,
        precision: Precision = "fp16",
        bands: Callable[[CudaNetwork, Lane, Choice, Ops], CudaBands] | None = None,
    ) -> None:
        """`bands` makes the runs in bands, for networks that have them."""
        self.scale = source.scale
        self._source = source
        self._lane = lane
        self._ops = fused_ops(lane)
        self._make_bands = bands
        self._bands: CudaBands | None = None
        self._number = next(_numbers)
        self._together_pixels = _TOGETHER_PIXELS
        self._programs = Programs(lane)
        self._closed = False
        # What it computes in now: never coarser than asked for, finer where that was needed.
        self.precision: str
        self._choice: Choice
        self._choose(precisions_from(precision))

    # A card has no use for `threads`, but whoever calls does not know what computes.
    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:  # noqa: ARG002
        self.infer_together([(source, piece, out)])

    def infer_together(self, jobs: Sequence[Job]) -> None:
        """See `Batching`."""
        with self._lane.working():
            self._require_open()
            waiting: deque[Callable[[], None]] = deque()
            try:
                for group in self._groups(jobs):
                    self._begin_or_halve(group, waiting)
                    while len(waiting) > _IN_FLIGHT:
                        waiting.popleft()()
                while waiting:
                    waiting.popleft()()
            except BaseException:  # an interrupt too: nothing may write to the callers' arrays any more
                self._lane.synchronize()
                raise

    @property
    def form(self) -> str:
        """Which form was found the fastest."""
        return self._choice.name

    def compute(self, integers: torch.Tensor, bits: int, planes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`Ops.to_pixels` of the network's result for integers (n, h, w, 3), on the device. To be called
        while its lane is `working`."""
        return _compute(self._choice, self._ops, integers, bits, planes)

    def batch_key(
        self, piece: Piece, source_type: np.dtype[Any], out_type: np.dtype[Any], planes: int
    ) -> str | None:
        """See `Batching`."""
        height, width = piece.down.computed, piece.across.computed
        return f"{self._number}:{height}x{width}:{source_type}:{out_type}:{planes}"

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """See `OwnMemory`."""
        return self._lane.empty(shape, dtype)

    def bands(self) -> CudaBands:
        """The same network for runs in bands. Raises `ProcessingFailed`."""
        with self._lane.working():
            self._require_open()
            if self._make_bands is None:
                raise ProcessingFailed("this network has no run in bands")
            if self._bands is None:
                # Fused passes that the whole image is not computed with are no better for its bands.
                ops = self._ops if self._choice.name == FUSED else PlainOps()
                self._bands = self._make_bands(self, self._lane, self._choice, ops)
            return self._bands

    def lower(self, precision: str) -> None:
        """Its values do not fit this precision: take the next one from now on, if it has not been done
        already. Raises `ProcessingFailed` where there is none."""
        with self._lane.working():
            if self.precision != precision:
                return
            counters.count("nan_fallbacks")
            rest = precisions_from(self._choice.precision)[1:]
            if not rest:
                raise ProcessingFailed("the network's results are not finite")
            self._programs.clear()
            self._bands = None  # runs that are open keep theirs
            self._choose(rest)
            log.warning("values overflow %s, so this model runs in %s from now on", precision, self.precision)

    def close(self) -> None:
        with self._lane.working():
            if self._closed:
                return
            self._closed = True
            self._programs.clear()
            if self._bands is not None:
                self._bands.close()
            self._bands = None
            del self._choice
            self._lane.release_memory()

    def _choose(self, precisions: tuple[Precision, ...]) -> None:
        source, device = self._source, self._lane.device

        def candidates() -> Iterator[Candidate]:
            if source.fused is not None:
                fused = source.fused
                yield Candidate(FUSED, lambda dtype: fused(self._ops, device, dtype))
            yield Candidate(
                "module", lambda dtype: ModuleForm(source.module(device, dtype), device), source.recordable
            )

        choice = self._choice = choose_form(
            list(candidates()),
            lambda: source.module(device, torch.float32),
            [name for name in precisions if name in source.precisions],
            self._lane,
            multiple=source.multiple,
            min_size=source.min_size,
        )
        self._programs = Programs(self._lane) if choice.recordable else Programs(self._lane, max_graphs=0)
        self.precision = choice.precision
        self._lane.release_memory()

    def _require_open(self) -> None:
        if self._closed:
            raise ProcessingFailed("the network has been unloaded")

    def _groups(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """As many at a time as are worth it: a power of two, so that few numbers of images come up."""
        pixels = jobs[0][1].computed_pixels
        start = 0
        while start < len(jobs):
            most = min(len(jobs) - start, max(1, self._together_pixels // pixels))
            count = 1 << (most.bit_length() - 1)
            yield jobs[start : start + count]
            start += count

    def _begin_or_halve(self, jobs: Sequence[Job], waiting: deque[Callable[[], None]]) -> None:
        """Begin a group. Without enough memory: finish the others, give back what is only cached, and try
        halves; raises torch's error when one alone is too large."""
        try:
            waiting.append(self._begin(jobs))
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.info("out of memory with %d pieces together", len(jobs))
            counters.count("out_of_memory")
        while waiting:
            waiting.popleft()()
        self._lane.make_room()
        if len(jobs) == 1:
            waiting.append(self._begin(jobs))
            return
        half = len(jobs) // 2
        self._together_pixels = min(self._together_pixels, half * jobs[0][1].computed_pixels)
        self._begin_or_halve(jobs[:half], waiting)
        self._begin_or_halve(jobs[half:], waiting)

    def _begin(self, jobs: Sequence[Job]) -> Callable[[], None]:
        """Queue everything for these pieces; the function returned waits for it."""
        choice, ops = self._choice, self._ops
        images = [pad_piece(source, piece) for source, piece, _ in jobs]
        first = jobs[0][2]
        bits, planes = 8 * first.dtype.itemsize, first.shape[2]

        key = (len(jobs), *images[0].shape[:2], str(images[0].dtype), bits, planes)
        pixels, bad = self._programs.run(
            key, self._lane.upload(images), lambda source: _compute(choice, ops, source, bits, planes)
        )
        downloads = [
            self._lane.download(self._wanted(pixels[number], piece, out), out)
            for number, (_, piece, out) in enumerate(jobs)
        ]
        overflow = np.empty(1, np.int32)
        downloads.append(self._lane.download(bad, overflow))

        def finish() -> None:
            for wait in downloads:
                wait()
            if overflow[0]:
                self.lower(choice.precision)
                self._begin(jobs)()

        return finish

    def _wanted(self, pixels: torch.Tensor, piece: Piece, out: NDArray[Any]) -> torch.Tensor:
        top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
        height, width, _ = out.shape
        return pixels[top : top + height, left : left + width].contiguous()


def _compute(
    choice: Choice, ops: Ops, integers: torch.Tensor, bits: int, planes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    raw = choice.form(from_integers(integers, choice.dtype))
    return ops.to_pixels(raw, integers, bits, planes)


def fused_ops(lane: Lane) -> Ops:
    """Triton's kernels on a card that can have them, after a trial."""
    if not lane.cuda:
        return PlainOps()
    try:
        from upscaled_server.engine.backends.cuda.triton_kernels import TritonOps

        ops = TritonOps()
        with lane.working():
            values = torch.ones(1, 8, 2, 2, device=lane.device).contiguous(memory_format=torch.channels_last)
            bias = torch.ones(8, device=lane.device)
            image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8, device=lane.device)
            joined = ops.join((values,), Epilogue(bias))
            _, bad = ops.to_pixels(Raw(joined, bias), image, 8, 3)
            if bool(bad) or not bool((joined == 2).all()):
                raise ProcessingFailed("its kernels give wrong results")
    except Exception as error:  # whatever a compiler that does not fit, or is not there, may raise
        log.warning(
            "this card computes slower, since Triton cannot be used: %s: %s", type(error).__name__, error
        )
        return PlainOps()
    return ops
