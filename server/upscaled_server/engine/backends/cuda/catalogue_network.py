"""A network of the catalogue on a card."""

from __future__ import annotations

from typing import Any

import torch

from upscaled_server.engine.architectures import Architecture, Compact
from upscaled_server.engine.backends.cuda.forms import CompactForm, Form, WideForm
from upscaled_server.engine.backends.cuda.fused import Ops
from upscaled_server.engine.backends.cuda.lane import Lane, lane_of
from upscaled_server.engine.backends.cuda.network import CudaNetwork, Source
from upscaled_server.engine.backends.cuda.precision import Choice
from upscaled_server.engine.bands.cuda_bands import CudaBands
from upscaled_server.engine.device import Device, Precision
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import DomainError, MustBeginAnew


def catalogue_network(state: StateDict, architecture: Architecture, device: Device) -> CudaNetwork:
    """`state` must have passed `check_state`. Raises `ProcessingFailed`, `OutOfMemory`."""
    return on_lane(state, architecture, lane_of(torch.device("cuda", device.index)), device.precision)


def on_lane(
    state: StateDict, architecture: Architecture, lane: Lane, precision: Precision = "fp16"
) -> CudaNetwork:
    """The same on a lane, which may be a CPU's."""

    def module(device: torch.device, dtype: torch.dtype) -> Any:
        network: Any = build_network(architecture, state)
        return network.to(device, dtype, memory_format=torch.channels_last)

    def fused(ops: Ops, device: torch.device, dtype: torch.dtype) -> Form:
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
        if isinstance(architecture, Compact):
            return CompactForm(architecture, tensors, ops, device, dtype)
        return WideForm(architecture, tensors, ops, device, dtype)

    def bands(network: CudaNetwork, lane: Lane, choice: Choice, ops: Ops) -> CudaBands:
        def overflowed() -> DomainError:
            # Carried rows are lost with it, so the image has to begin anew, and then is finished.
            network.lower(choice.precision)
            return MustBeginAnew(
                f"values overflow {choice.precision}; the model runs in {network.precision} from now on, so "
                "try again"
            )

        return CudaBands(state, architecture, lane, ops, choice.precision, overflowed)

    source = Source(module, architecture.scale, architecture.multiple, fused=fused)
    return CudaNetwork(source, lane, precision=precision, bands=bands)
