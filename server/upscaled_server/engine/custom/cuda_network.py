"""A network of spandrel's on a card: as it is, since nothing is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from upscaled_server.engine.backends.cuda.lane import Lane, lane_of
from upscaled_server.engine.backends.cuda.network import CudaNetwork, Plain, Source
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.device import Device, Precision


def custom_cuda_network(load: Callable[[], Any], spec: CustomModel, device: Device) -> CudaNetwork:
    """`load` gives spandrel's descriptor, on the CPU in fp32, a new one each time. Raises `ProcessingFailed`,
    `OutOfMemory`."""
    return on_lane(load, spec, lane_of(torch.device("cuda", device.index)), device.precision)


def on_lane(
    load: Callable[[], Any], spec: CustomModel, lane: Lane, precision: Precision = "fp16"
) -> CudaNetwork:
    """The same on a lane, which may be a CPU's."""
    first = load()
    able: dict[Precision, bool] = {"fp16": first.supports_half, "bf16": first.supports_bfloat16, "fp32": True}

    def module(device: torch.device, dtype: torch.dtype) -> Plain:
        network = load()
        network.model.to(device, dtype)
        # Called through its descriptor, which knows how; many of these architectures want plain strides.
        return lambda image: network(image.contiguous())

    source = Source(
        module,
        spec.scale,
        spec.multiple,
        min_size=spec.architecture.min_size,
        precisions=tuple(name for name, possible in able.items() if possible),
        # It may copy numbers to the card or wait for it, which graphs do not allow.
        recordable=False,
    )
    return CudaNetwork(source, lane, precision=precision)
