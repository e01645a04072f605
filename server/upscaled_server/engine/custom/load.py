"""From the bytes of a weight file to a network, through spandrel. Nothing in the file can run.

`.pth`, `.pt` and `.ckpt` are read by `torch.load(weights_only=True)`, which knows tensors and plain
containers only; which architecture the tensors belong to is told from their names and shapes, out of
spandrel's own list.
"""

from __future__ import annotations

from typing import Any

from upscaled_server.engine.shims import import_spandrel
from upscaled_server.engine.weights.pth_file import first_line, load_by_torch
from upscaled_server.errors import WeightsRejected

# Where files keep their tensors when they keep more than them, in the order in which spandrel looks.
_WRAPPERS = ("model_state_dict", "state_dict", "params_ema", "params-ema", "params", "model", "net")


def load_custom(data: bytes, suffix: str, origin: str) -> Any:
    """spandrel's `ImageModelDescriptor` of a network with three colour planes in and out, on the CPU in fp32.

    Raises `WeightsRejected` for a file that is damaged, holds more than tensors, or is another kind of
    network, and `FailedPrecondition` where spandrel is not installed.
    """
    spandrel = import_spandrel()
    state = _read_safetensors(data, origin) if suffix == ".safetensors" else load_by_torch(data, origin)
    try:
        network = spandrel.ModelLoader(device="cpu").load_from_state_dict(_unwrapped(state))
    except Exception as error:
        # spandrel raises what its architectures happen to raise for tensors that do not fit.
        raise WeightsRejected(f"{origin} is no network that spandrel knows: {first_line(error)}") from error
    if not isinstance(network, spandrel.ImageModelDescriptor) or network.purpose != "SR":
        kind = getattr(network, "purpose", type(network).__name__)
        raise WeightsRejected(f"{origin} is not for single-image super-resolution but {kind}")
    if (network.input_channels, network.output_channels) != (3, 3):
        planes = f"{network.input_channels} planes in and {network.output_channels} out"
        raise WeightsRejected(f"{origin} takes {planes}, not RGB")
    if network.size_requirements.square:
        raise WeightsRejected(f"{origin} takes square images only")
    network.eval()
    for parameter in network.model.parameters():
        parameter.requires_grad_(False)
    return network


def _read_safetensors(data: bytes, origin: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsRejected(
            f"{origin} is not a safetensors file we can read: {first_line(error)}"
        ) from error


def _unwrapped(state: Any) -> dict[str, Any]:
    """The tensors by name, in fp32, without the prefix of data-parallel training."""
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict):
        raise ValueError("it does not hold tensors by name")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
