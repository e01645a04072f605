"""The reference: `RealESRGANer` of the realesrgan package (BSD-3), on whole images, in fp32.

For comparison, so it computes as upstream does; only reading and rounding of pixels are ours, since
`RealESRGANer.enhance` takes a dark 16-bit image for an 8-bit one and cannot give 16 bits for 8.
"""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture, Compact
from upscaled_server.engine.backends.base import LUMA, full_scale
from upscaled_server.engine.shims import import_realesrgan
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.cut import Piece


class ReferenceNetwork:
    """See `LoadedNetwork`. Takes pieces that are whole images only."""

    backend = "realesrgan"
    precision = "fp32"

    def __init__(self, state: StateDict, architecture: Architecture, *, device: str = "cpu") -> None:
        self.scale = architecture.scale
        self._upsampler: Any = make_upsampler(architecture, state, device=device, tile=0, pre_pad=0)
        # It keeps the image it works on, so one at a time.
        self._lock = threading.Lock()

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        import torch

        from upscaled_server.engine.backends.torch_backend import typed_errors

        upsampler = self._upsampler
        if upsampler is None:
            raise ProcessingFailed("the network has been unloaded")
        if piece.down.inside or piece.across.inside or piece.down.pad or piece.across.pad:
            raise ProcessingFailed("the reference takes whole images only")
        with self._lock, torch.inference_mode(), typed_errors():
            torch.set_num_threads(threads)
            upsampler.pre_process(source.astype(np.float32) / full_scale(source.dtype))
            upsampler.process()
            result = upsampler.post_process()[0].float().cpu().clamp_(0, 1)
            upsampler.img = upsampler.output = None
            values = result.permute(1, 2, 0).numpy()
            if out.shape[2] == 1:
                values = values @ np.array(LUMA, np.float32)[:, np.newaxis]
            out[...] = np.rint(values * np.float32(full_scale(out.dtype)))

    def close(self) -> None:
        self._upsampler = None


def make_upsampler(
    architecture: Architecture, state: StateDict, *, device: Any = "cpu", half: bool = False, **options: Any
) -> Any:
    """A `RealESRGANer` with these weights on a torch device, in fp32, or fp16 where `half` is given;
    `options` are its own (`tile`, `tile_pad`, `pre_pad`).

    Raises `FailedPrecondition`, naming the extra, where the package is missing.
    """
    realesrgan = import_realesrgan()
    import torch

    if isinstance(architecture, Compact):
        compact = importlib.import_module("realesrgan.archs.srvgg_arch").SRVGGNetCompact
        network = compact(
            num_in_ch=3,
            num_out_ch=3,
            num_feat=architecture.features,
            num_conv=architecture.convs,
            upscale=architecture.scale,
            act_type="prelu",
        )
    else:
        rrdb = importlib.import_module("basicsr.archs.rrdbnet_arch").RRDBNet
        network = rrdb(
            num_in_ch=3,
            num_out_ch=3,
            scale=architecture.scale,
            num_feat=architecture.features,
            num_block=architecture.blocks,
            num_grow_ch=architecture.growth,
        )
    # It reads its weights from a path and nothing else: one that leaves no file behind.
    descriptor = os.memfd_create("upscaled-reference", os.MFD_CLOEXEC)
    try:
        path = f"/proc/self/fd/{descriptor}"
        torch.save({"params": {name: torch.from_numpy(array) for name, array in state.items()}}, path)
        return realesrgan.RealESRGANer(
            scale=architecture.scale,
            model_path=path,
            model=network,
            half=half,
            device=torch.device(device),
            **options,
        )
    finally:
        os.close(descriptor)
