"""ncnn on the CPU: fp32 arithmetic with Winograd convolutions, several times as fast as torch eager.

Traps of the binding that this file keeps clear of:

- A `Mat` made from a NumPy array does not own its memory. Inputs are therefore made by `from_pixels` (which
  copies) or as `Mat(w, h, c)` that is then written through a view; outputs are read through a view while the
  `Mat` is alive.
- A net's number of threads is fixed when it is loaded (weights are packed for it), so there is one net for
  each number.
- Loading from memory leaves the net pointing into the Python object. A memfd serves instead: bytes that were
  checked, not a path that may have changed since, and ncnn makes its own copy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.backends.base import full_scale, pad_piece
from upscaled_server.engine.weights.ncnn.model import NcnnModel
from upscaled_server.errors import OutOfMemory, ProcessingFailed, WeightsRejected
from upscaled_server.tiling.cut import Piece

# Rows of the trunk's result that go through the tail at a time: the tail works at 2 and 4 times the size with
# 64 channels, and would need three times the memory of the trunk if it ran over the whole piece.
_TAIL_ROWS = 16

# The convolutions behind the trunk see one pixel each, at 2, 4, 4 and 4 times the size: 1.25 pixels of the
# trunk.
_TAIL_CONTEXT = 2

# Values that are rounded at a time, so that the scratch stays in the cache.
_ROUND_VALUES = 1 << 18

_ALLOCATION_FAILED = -100


class NcnnNetwork:
    """See `LoadedNetwork`."""

    backend = "ncnn"
    precision = "fp32"

    def __init__(self, model: NcnnModel, *, scale: int) -> None:
        self.scale = scale
        self._model: NcnnModel | None = model
        self._nets: dict[int, Any] = {}
        self._lock = threading.Lock()

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        net, model = self._net(threads)
        pixels = pad_piece(source, piece)
        image = _to_mat(pixels)
        if model.trunk_end is None:
            result = _extract(net, model.input, image, model.output)
            _round(_wanted(np.asarray(result), piece, self.scale), out)
            return
        features = _extract(net, model.input, image, model.trunk_end)
        del image
        self._tail(net, model.trunk_end, model.output, features, piece, out)

    def load(self, threads: int) -> None:
        """Build the net for this number of threads now, so that no image pays for it."""
        self._net(threads)

    def close(self) -> None:
        with self._lock:
            self._nets.clear()
            self._model = None

    def _tail(
        self, net: Any, trunk_end: str, output: str, features: Any, piece: Piece, out: NDArray[Any]
    ) -> None:
        """From the trunk's result to pixels, in strips: identical to the last bit with doing it at once."""
        import ncnn

        trunk = np.asarray(features)
        channels, height, width = trunk.shape
        # `factor`: output pixels for a pixel of the trunk (4); `block`: input pixels for a pixel of the trunk
        # (1, or 2).
        factor = 4
        block = factor // self.scale
        left = piece.across.inside * self.scale
        right = left + piece.across.wanted * self.scale
        top = piece.down.inside * self.scale
        bottom = top + piece.down.wanted * self.scale
        first = piece.down.inside // block
        last = -(-(piece.down.inside + piece.down.wanted) // block)
        for start in range(first, last, _TAIL_ROWS):
            end = min(start + _TAIL_ROWS, last)
            above, below = max(0, start - _TAIL_CONTEXT), min(height, end + _TAIL_CONTEXT)
            strip = ncnn.Mat(width, below - above, channels)
            np.asarray(strip)[...] = trunk[:, above:below]
            result = np.asarray(_extract(net, trunk_end, strip, output))
            begin, finish = max(top, start * factor), min(bottom, end * factor)
            rows = result[:, begin - above * factor : finish - above * factor, left:right]
            _round(rows, out[begin - top : finish - top])

    def _net(self, threads: int) -> tuple[Any, NcnnModel]:
        with self._lock:
            if self._model is None:
                raise ProcessingFailed("the network has been unloaded")
            net = self._nets.get(threads)
            if net is None:
                net = self._nets[threads] = _load(self._model, threads)
            return net, self._model


def _load(model: NcnnModel, threads: int) -> Any:
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.use_vulkan_compute = False
    options.lightmode = True
    options.use_winograd_convolution = True
    options.use_sgemm_convolution = True
    options.use_packing_layout = True
    for name in dir(options):
        # Newer versions add to these; all of them trade accuracy for memory.
        if name.startswith(("use_fp16", "use_bf16", "use_int8")):
            setattr(options, name, False)
    with _in_memory("param", model.param) as param, _in_memory("bin", model.bin) as weights:
        if net.load_param(param) != 0 or net.load_model(weights) != 0:
            raise WeightsRejected("ncnn refused a network that had passed our checks")
    return net


@contextmanager
def _in_memory(name: str, data: bytes) -> Iterator[str]:
    """A path to these bytes, without a file system."""
    descriptor = os.memfd_create(f"upscaled-{name}", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _extract(net: Any, source: str, value: Any, target: str) -> Any:
    extractor = net.create_extractor()
    extractor.set_light_mode(True)
    if extractor.input(source, value) != 0:
        raise ProcessingFailed(f"ncnn took no input {source!r}")
    code, result = extractor.extract(target)
    if code == _ALLOCATION_FAILED or (code == 0 and result.empty()):
        raise OutOfMemory("ncnn ran out of memory", width=value.w, height=value.h)
    if code != 0:
        raise ProcessingFailed(f"ncnn failed with {code}", code=code)
    return result


def _to_mat(pixels: NDArray[Any]) -> Any:
    """(h, w, 3) uint8 or uint16 as a Mat of three planes of floats in 0..1."""
    import ncnn

    height, width, _ = pixels.shape
    if pixels.dtype == np.uint8:
        # The binding wants one contiguous buffer: full rows of the window are one, a tile is copied.
        pixels = np.ascontiguousarray(pixels)
        image = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        image.substract_mean_normalize([], [1 / 255] * 3)
        return image
    image = ncnn.Mat(width, height, 3)
    np.multiply(pixels.transpose(2, 0, 1), np.float32(1 / full_scale(pixels.dtype)), out=np.asarray(image))
    return image


def _wanted(result: NDArray[Any], piece: Piece, scale: int) -> NDArray[Any]:
    top, left = piece.down.inside * scale, piece.across.inside * scale
    return result[:, top : top + piece.down.wanted * scale, left : left + piece.across.wanted * scale]


def _round(planes: NDArray[Any], out: NDArray[Any]) -> None:
    """(3, h, w) floats in 0..1 into (h, w, 3) integers: clipped, rounded half up."""
    full = np.float32(full_scale(out.dtype))
    _, height, width = planes.shape
    rows = max(1, _ROUND_VALUES // max(1, width))
    scratch = np.empty((min(rows, height), width), np.float32)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        part = scratch[: end - start]
        for channel in range(3):
            np.multiply(planes[channel, start:end], full, out=part)
            part += np.float32(0.5)
            np.clip(part, 0, full, out=part)
            out[start:end, :, channel] = part
