"""torch on the CPU, where ncnn is not installed or does not know a network: fp32, channels-last
throughout."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscaled_server.engine import counters
from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.base import LUMA, full_scale, pad_piece
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.networks.rrdb import RrdbNet
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import DeviceFailed, OutOfMemory, ProcessingFailed
from upscaled_server.tiling.cut import Piece

if TYPE_CHECKING:
    from upscaled_server.engine.bands.torch_bands import TorchBands

# As in ncnn_backend: the RRDB tail runs in strips of the trunk's rows, with 2 rows of context.
_TAIL_ROWS = 16
_TAIL_CONTEXT = 2

# cudaErrorMemoryAllocation. The device goes on, unlike after other errors of CUDA.
_CUDA_ALLOCATION_FAILED = 2


class TorchNetwork:
    """See `LoadedNetwork`."""

    backend = "torch"
    precision = "fp32"

    # None where the network is of another family, which has no run in bands.
    _architecture: Architecture | None = None

    def __init__(self, state: StateDict, architecture: Architecture) -> None:
        self._architecture = architecture
        self._place(build_network(architecture, state), architecture.scale)

    def _place(self, network: Any, scale: int) -> None:
        """Take a module in fp32."""
        self.scale = scale
        self._network: Any = network.to(memory_format=torch.channels_last)
        self._lock = threading.Lock()
        self._threads = 0
        self._bands: TorchBands | None = None

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        network = self._network
        if network is None:
            raise ProcessingFailed("the network has been unloaded")
        # One piece at a time: torch's threads work inside it.
        with self._lock, torch.inference_mode(), typed_errors():
            if threads != self._threads:
                torch.set_num_threads(threads)
                self._threads = threads
            image = _to_tensor(pad_piece(source, piece))
            if isinstance(network, RrdbNet):
                self._in_strips(network, image, piece, out)
                return
            result = network(image)[0]
            top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
            height, width, _ = out.shape
            part = result[:, top : top + height, left : left + width]
            out[...] = to_integers(part, out).numpy()

    def bands(self) -> TorchBands:
        """The same network for runs in bands, over the same weights. Raises `ProcessingFailed`."""
        with self._lock:
            if self._network is None:
                raise ProcessingFailed("the network has been unloaded")
            if self._architecture is None:
                raise ProcessingFailed("this network has no run in bands")
            if self._bands is None:
                from upscaled_server.engine.bands.torch_bands import TorchBands

                tensors = self._network.state_dict()
                self._bands = TorchBands(tensors, self._architecture)
            return self._bands

    def close(self) -> None:
        with self._lock:
            if self._bands is not None:
                self._bands.close()
            self._bands = self._network = None

    def _in_strips(self, network: RrdbNet, image: torch.Tensor, piece: Piece, out: NDArray[Any]) -> None:
        trunk = network.trunk(image)
        factor, block = 4, network.unshuffle
        rows = trunk.shape[2]
        top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
        height, width, _ = out.shape
        last = -(-(piece.down.inside + piece.down.wanted) // block)
        for start in range(piece.down.inside // block, last, _TAIL_ROWS):
            end = min(start + _TAIL_ROWS, last)
            above, below = max(0, start - _TAIL_CONTEXT), min(rows, end + _TAIL_CONTEXT)
            result = network.tail(trunk[:, :, above:below])[0]
            begin, finish = max(top, start * factor), min(top + height, end * factor)
            part = result[:, begin - above * factor : finish - above * factor, left : left + width]
            target = out[begin - top : finish - top]
            target[...] = to_integers(part, target).numpy()


def _to_tensor(pixels: NDArray[Any]) -> torch.Tensor:
    """(h, w, 3) as (1, 3, h, w), which is channels-last already."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    image = tensor.permute(2, 0, 1).unsqueeze(0).to(torch.float32) / full_scale(pixels.dtype)
    return image.contiguous(memory_format=torch.channels_last)


def to_integers(planes: torch.Tensor, out: NDArray[Any]) -> torch.Tensor:
    """(3, h, w) floats in 0..1 as (h, w, 3) integers, or (h, w, 1) of luma, by the shape and type of `out`:
    clipped, rounded half up."""
    full = full_scale(out.dtype)
    values = planes
    if out.shape[2] == 1:
        weights = torch.tensor(LUMA, dtype=torch.float32)
        values = (values.clamp(0, 1) * weights[:, None, None]).sum(0, keepdim=True)
    values = (values.permute(1, 2, 0) * full + 0.5).clamp_(0, full)
    return values.to(torch.uint8 if full == 255 else torch.int32)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Errors of torch as ours. Raises `OutOfMemory`, `DeviceFailed`, `ProcessingFailed`."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if is_out_of_memory(error):
            # What the work that failed has made hangs on the error, which may be kept for a while.
            traceback.clear_frames(error.__traceback__)
            torch.cuda.empty_cache()
            counters.count("out_of_memory")
            raise OutOfMemory(f"torch ran out of memory: {said}") from error
        if isinstance(error, torch.AcceleratorError):
            # An illegal access, say: CUDA answers everything that follows in this process with the same
            # error.
            raise DeviceFailed(f"the device failed: {said}") from error
        raise ProcessingFailed(f"torch failed: {said}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory did not suffice. Where its own allocator did not ask for it, CUDA says
    so: for page-locked memory, a graph, or code that is loaded when it is first used."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    code = getattr(error, "error_code", None) if isinstance(error, torch.AcceleratorError) else None
    if code is not None:
        return bool(code == _CUDA_ALLOCATION_FAILED)
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
