"""The few things we do with ncnn's Python binding, clear of its traps:

- A `Mat` made from a NumPy array does not own its memory. Inputs are therefore made by `from_pixels` (which
  copies) or as `Mat(w, h, c)` that is then written through a view; outputs are read through a view while the
  `Mat` is alive.
- A view of a `Mat` whose channels are interleaved reads outside it, unless the `Mat` is told that it is a
  wider plain one (`packed_view`).
- A net's number of threads is fixed when it is loaded (weights are packed for it), so there is one net for
  each number.
- Loading from memory leaves the net pointing into the Python object. A memfd serves instead: bytes that were
  checked, not a path that may have changed since, and ncnn makes its own copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine import counters
from upscaled_server.engine.backends.base import LUMA, full_scale
from upscaled_server.engine.backends.ncnn_memory import pool
from upscaled_server.errors import OutOfMemory, ProcessingFailed, WeightsRejected

# Values that are rounded at a time, so that the scratch stays in the cache.
_ROUND_VALUES = 1 << 15

_ALLOCATION_FAILED = -100

# A C int.
_LARGEST_SIZE = 2**31 - 1


def load_net(param: bytes, weights: bytes, threads: int) -> Any:
    """A net of these files, which must have passed our checks: fp32, Winograd, no Vulkan.

    Raises `WeightsRejected` if ncnn refuses them all the same.
    """
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
    with _in_memory("param", param) as param_path, _in_memory("bin", weights) as weights_path:
        if net.load_param(param_path) != 0 or net.load_model(weights_path) != 0:
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


class Call:
    """One use of a net: give what goes in, then take what comes out. Blobs by name or number.

    ncnn computes what is taken, and frees every blob when the last layer that reads it has run.
    """

    def __init__(self, net: Any) -> None:
        self._extractor = net.create_extractor()
        self._extractor.set_light_mode(True)
        # Else the net has a pool of its own, from which nothing is released as long as it lives.
        allocator = pool()
        self._extractor.set_blob_allocator(allocator)
        self._extractor.set_workspace_allocator(allocator)

    def give(self, blob: str | int, value: Any) -> None:
        """Raises `ProcessingFailed`."""
        if self._extractor.input(blob, value) != 0:
            raise ProcessingFailed(f"ncnn took no input {blob!r}")

    def take(self, blob: str | int, *, packed: bool = False) -> Any:
        """A `Mat` of floats; with its channels interleaved as ncnn had them if `packed`.

        Raises `OutOfMemory`, `ProcessingFailed`.
        """
        code, result = self._extractor.extract(blob, int(packed))
        if code == _ALLOCATION_FAILED:
            raise _out_of_memory()
        if code != 0:
            raise ProcessingFailed(f"ncnn failed with {code}", code=code)
        return allocated(result)


def new_mat(*sizes: int, allocator: Any = None) -> Any:
    """A `Mat` of floats in any state. Raises `OutOfMemory`, for a size too large for the binding too."""
    import ncnn

    if max(sizes) > _LARGEST_SIZE:
        raise _out_of_memory()
    return allocated(ncnn.Mat(*sizes, allocator=allocator))


def allocated(mat: Any) -> Any:
    """The `Mat`, which is empty where there was no memory for it. Raises `OutOfMemory`."""
    if mat.empty():
        raise _out_of_memory()
    return mat


def _out_of_memory() -> OutOfMemory:
    counters.count("out_of_memory")
    return OutOfMemory("ncnn ran out of memory")


def extract(net: Any, source: str, value: Any, target: str) -> Any:
    """One blob in, one out. Raises `OutOfMemory`, `ProcessingFailed`."""
    call = Call(net)
    call.give(source, value)
    return call.take(target)


def to_mat(pixels: NDArray[Any]) -> Any:
    """(h, w, 3) uint8 or uint16 as a Mat of three planes of floats in 0..1. Raises `OutOfMemory`."""
    import ncnn

    height, width, _ = pixels.shape
    if pixels.dtype == np.uint8:
        # The binding wants one contiguous buffer: full rows of the window are one, a tile is copied.
        pixels = np.ascontiguousarray(pixels)
        image = allocated(ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, width, height))
        image.substract_mean_normalize([], [1 / 255] * 3)
        return image
    image = new_mat(width, height, 3)
    np.multiply(pixels.transpose(2, 0, 1), np.float32(1 / full_scale(pixels.dtype)), out=np.asarray(image))
    return image


def round_planes(planes: NDArray[Any], out: NDArray[Any]) -> None:
    """(3, h, w) floats in 0..1 into (h, w, 3) integers, or (h, w, 1) of luma: clipped, rounded half up."""
    if out.shape[2] == 1:
        _round_luma(planes, out)
        return
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


def _round_luma(planes: NDArray[Any], out: NDArray[Any]) -> None:
    full = np.float32(full_scale(out.dtype))
    _, height, width = planes.shape
    rows = max(1, _ROUND_VALUES // max(1, width))
    part, total = (np.empty((min(rows, height), width), np.float32) for _ in range(2))
    for start in range(0, height, rows):
        end = min(start + rows, height)
        plane, luma = part[: end - start], total[: end - start]
        luma[...] = 0.5
        for channel, weight in enumerate(LUMA):
            np.clip(planes[channel, start:end], 0, 1, out=plane)
            plane *= np.float32(weight) * full
            luma += plane
        out[start:end, :, 0] = luma


def packed_view(mat: Any) -> NDArray[np.float32]:
    """A view of a Mat of three dimensions as ncnn packed it: (groups, rows, columns * pack)."""
    pack = mat.elempack
    mat.w, mat.cstep, mat.elempack, mat.elemsize = mat.w * pack, mat.cstep * pack, 1, 4
    return np.asarray(mat)
