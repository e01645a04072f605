"""What the planner must know of a model on a device."""

from __future__ import annotations

from upscaled_server.engine.architectures import Custom, Rrdb
from upscaled_server.engine.backends.cuda.sizes import bytes_per_pixel, seconds_per_pixel
from upscaled_server.engine.bands.traits import band_traits
from upscaled_server.engine.catalogue import Spec
from upscaled_server.engine.device import Device
from upscaled_server.tiling.plan import NetworkTraits

# torch eager (channels-last) against ncnn on the same CPU, and its peak memory for an input pixel.
_TORCH_CPU_TIME = 2.6
_TORCH_BYTES = {"rrdb": 5_000, "compact": 1_600}

# RealESRGANer on a CPU likewise: NCHW, and the enlarging layers over the whole image at once.
_REFERENCE_CPU_TIME = 3.2
_REFERENCE_BYTES = {"rrdb": 18_000, "compact": 2_200}

# A card against one CPU core, for what is not counted but measured on a CPU. It was measured on no card, and
# only decides how long a step is.
_CUDA_SPEED = 400.0


def network_traits(spec: Spec, device: Device) -> NetworkTraits:
    """Needs no weights, so a plan can be made before the model is loaded."""
    rrdb = isinstance(spec.architecture, Rrdb)
    seconds, size = spec.seconds_per_pixel, spec.bytes_per_pixel
    if isinstance(spec.architecture, Custom):
        # Measured with torch on a CPU, see `custom/measure.py`.
        return NetworkTraits(
            scale=spec.scale,
            halo=spec.halo,
            multiple=spec.multiple,
            bytes_per_input_pixel=size,
            seconds_per_pixel=seconds / _CUDA_SPEED if device.kind == "cuda" else seconds,
            min_size=spec.architecture.min_size,
            threads_inside=True,
        )
    if device.backend == "realesrgan":
        size = _REFERENCE_BYTES["rrdb" if rrdb else "compact"] // (spec.multiple**2)
        seconds *= _REFERENCE_CPU_TIME if device.kind == "cpu" else 1 / _CUDA_SPEED
    elif device.backend == "torch":
        if device.kind == "cuda":
            size = bytes_per_pixel(spec.architecture, device.precision)
            seconds = seconds_per_pixel(spec.architecture, device.precision)
        else:
            size = _TORCH_BYTES["rrdb" if rrdb else "compact"] // (spec.multiple**2)
            seconds *= _TORCH_CPU_TIME
    return NetworkTraits(
        scale=spec.scale,
        halo=spec.halo,
        multiple=spec.multiple,
        bytes_per_input_pixel=size,
        seconds_per_pixel=seconds,
        # An RRDB piece is large beside its halo, and torch parallelises inside a piece by itself.
        threads_inside=rrdb or device.backend != "ncnn",
        bands=band_traits(spec, device),
    )
