"""A torch module from an architecture and its weights."""

from __future__ import annotations

import torch

from upscaled_server.engine.architectures import Architecture, Compact
from upscaled_server.engine.networks.compact import CompactNet
from upscaled_server.engine.networks.rrdb import RrdbNet
from upscaled_server.engine.weights.state import StateDict


def build_network(architecture: Architecture, state: StateDict) -> CompactNet | RrdbNet:
    """The network on the CPU in fp32, for inference only. `state` must have passed `check_state`."""
    # On "meta" nothing is allocated or initialised; the weights are then put in place.
    with torch.device("meta"):
        network = CompactNet(architecture) if isinstance(architecture, Compact) else RrdbNet(architecture)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network.eval()
    return network
