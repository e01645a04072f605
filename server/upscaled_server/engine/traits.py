"""What the planner must know of a model on a device."""

from __future__ import annotations

from upscaled_server.engine.architectures import Rrdb
from upscaled_server.engine.catalogue import ModelSpec
from upscaled_server.engine.device import Device
from upscaled_server.tiling.plan import NetworkTraits

# torch eager (channels-last) against ncnn on the same CPU, and its peak memory for an input pixel.
_TORCH_CPU_TIME = 2.6
_TORCH_BYTES = {"rrdb": 5_000, "compact": 1_600}

# A card against one CPU core: a placeholder until it is measured on one; it only decides how long a step is.
_CUDA_SPEED = 400.0


def network_traits(spec: ModelSpec, device: Device) -> NetworkTraits:
    """Needs no weights, so a plan can be made before the model is loaded."""
    rrdb = isinstance(spec.architecture, Rrdb)
    seconds, size = spec.seconds_per_pixel, spec.bytes_per_pixel
    if device.backend == "torch":
        size = _TORCH_BYTES["rrdb" if rrdb else "compact"] // (spec.multiple**2)
        if device.kind == "cuda":
            seconds /= _CUDA_SPEED
            if device.precision == "fp16":
                size //= 2
        else:
            seconds *= _TORCH_CPU_TIME
    return NetworkTraits(
        scale=spec.scale,
        halo=spec.halo,
        multiple=spec.multiple,
        bytes_per_input_pixel=size,
        seconds_per_pixel=seconds,
        # An RRDB piece is large beside its halo, and torch parallelises inside a piece by itself.
        threads_inside=rrdb or device.backend == "torch",
    )
