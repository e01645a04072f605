"""torch: CUDA in fp16 or fp32, and the CPU where ncnn is not installed (fp32). Channels-last throughout.

Pixels cross to the device as integers and are scaled, clipped and rounded there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.base import LUMA, full_scale, pad_piece
from upscaled_server.engine.device import DeviceKind, Precision
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.networks.rrdb import RrdbNet
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.tiling.cut import Piece

if TYPE_CHECKING:
    from upscaled_server.engine.bands.torch_bands import TorchBands

# As in ncnn_backend: the RRDB tail runs in strips of the trunk's rows, with 2 rows of context. Larger on a
# card, where small launches cost more than memory.
_TAIL_ROWS = {"cpu": 16, "cuda": 128}
_TAIL_CONTEXT = 2


class TorchNetwork:
    """See `LoadedNetwork`."""

    backend = "torch"

    # None where the network is of another family, which has no run in bands.
    _architecture: Architecture | None = None

    def __init__(
        self,
        state: StateDict,
        architecture: Architecture,
        *,
        kind: DeviceKind = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self._architecture = architecture
        self._place(build_network(architecture, state), architecture.scale, kind, precision)

    def _place(self, network: Any, scale: int, kind: DeviceKind, precision: Precision) -> None:
        """Bring a module to the device."""
        if precision == "fp16" and kind != "cuda":
            raise ProcessingFailed("fp16 is for CUDA devices")
        self.scale = scale
        self.precision: str = precision
        self._kind: DeviceKind = kind
        self._dtype = torch.float16 if precision == "fp16" else torch.float32
        self._device = torch.device(kind)
        if kind == "cuda":
            # fp32 means fp32: without this cuDNN rounds the factors of a convolution to 10 bits.
            torch.backends.cudnn.allow_tf32 = False
        self._network: Any = network.to(self._device, self._dtype, memory_format=torch.channels_last)
        self._lock = threading.Lock()
        self._threads = 0
        self._bands: TorchBands | None = None

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        network = self._network
        if network is None:
            raise ProcessingFailed("the network has been unloaded")
        # One piece at a time: torch's threads work inside it, and a card's memory is planned for one.
        with self._lock, torch.inference_mode(), typed_errors():
            if self._kind == "cpu" and threads != self._threads:
                torch.set_num_threads(threads)
                self._threads = threads
            image = self._to_device(pad_piece(source, piece))
            if isinstance(network, RrdbNet):
                self._in_strips(network, image, piece, out)
                return
            result = network(image)[0]
            top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
            height, width, _ = out.shape
            self._store(result[:, top : top + height, left : left + width], out)

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
                self._bands = TorchBands(tensors, self._architecture, kind=self._kind, dtype=self._dtype)
            return self._bands

    def close(self) -> None:
        with self._lock:
            if self._bands is not None:
                self._bands.close()
            self._bands = self._network = None
        if self._kind == "cuda":
            torch.cuda.empty_cache()

    def _in_strips(self, network: RrdbNet, image: torch.Tensor, piece: Piece, out: NDArray[Any]) -> None:
        trunk = network.trunk(image)
        factor, block = 4, network.unshuffle
        rows = trunk.shape[2]
        top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
        height, width, _ = out.shape
        last = -(-(piece.down.inside + piece.down.wanted) // block)
        step = _TAIL_ROWS[self._kind]
        for start in range(piece.down.inside // block, last, step):
            end = min(start + step, last)
            above, below = max(0, start - _TAIL_CONTEXT), min(rows, end + _TAIL_CONTEXT)
            result = network.tail(trunk[:, :, above:below])[0]
            begin, finish = max(top, start * factor), min(top + height, end * factor)
            part = result[:, begin - above * factor : finish - above * factor, left : left + width]
            self._store(part, out[begin - top : finish - top])

    def _to_device(self, pixels: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels))
        if self._kind == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        # (h, w, 3) seen as (1, 3, h, w) is channels-last already.
        image = tensor.permute(2, 0, 1).unsqueeze(0).to(torch.float32) / full_scale(pixels.dtype)
        return image.to(self._dtype, memory_format=torch.channels_last)

    def _store(self, planes: torch.Tensor, out: NDArray[Any]) -> None:
        out[...] = to_integers(planes, out).cpu().numpy()


def to_integers(planes: torch.Tensor, out: NDArray[Any]) -> torch.Tensor:
    """(3, h, w) floats in 0..1 as (h, w, 3) integers, or (h, w, 1) of luma, by the shape and type of `out`:
    clipped, rounded half up. Still on the device."""
    full = full_scale(out.dtype)
    values = planes.to(torch.float32)
    if out.shape[2] == 1:
        weights = torch.tensor(LUMA, dtype=torch.float32, device=values.device)
        values = (values.clamp(0, 1) * weights[:, None, None]).sum(0, keepdim=True)
    values = (values.permute(1, 2, 0) * full + 0.5).clamp_(0, full)
    return values.to(torch.uint8 if full == 255 else torch.int32)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Errors of torch as ours. Raises `OutOfMemory`, `ProcessingFailed`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(f"the device ran out of memory: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        text = str(error)
        if "can't allocate memory" in text or "out of memory" in text:
            raise OutOfMemory(f"torch ran out of memory: {text.splitlines()[0]}") from error
        raise ProcessingFailed(f"torch failed: {text.splitlines()[0]}") from error
