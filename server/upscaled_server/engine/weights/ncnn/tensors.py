"""The `.bin` of a checked graph as tensors, and back.

Layer by layer in the order of the `.param`: for a convolution a tag, the weights (fp16 padded to 4 bytes, or
fp32) and the bias in fp32; for a PReLU its slopes in fp32.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.weights.ncnn.graph import Layer
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import WeightsRejected

_FP16 = 0x01306B47
_FP32 = 0


def read_tensors(data: bytes, layers: tuple[Layer, ...], architecture: Architecture) -> StateDict:
    """Every tensor by its upstream name, as fp32. The graph must have passed `check_graph`.

    Raises `WeightsRejected` if the bytes are not exactly those of the graph.
    """
    state: StateDict = {}
    names = iter(architecture.shapes().items())
    at = 0
    for layer in layers:
        if layer.type == "Convolution":
            name, shape = next(names)
            bias_name, bias_shape = next(names)
            state[name], at = _tagged(data, at, shape, layer)
            state[bias_name], at = _plain(data, at, bias_shape, layer)
        elif layer.type == "PReLU":
            name, shape = next(names)
            state[name], at = _plain(data, at, shape, layer)
    if at != len(data):
        raise WeightsRejected(f"the .bin has {len(data)} bytes where its .param asks for {at}")
    return state


def write_tensors(state: StateDict, precision: Literal["fp32", "fp16"]) -> bytes:
    """The `.bin` of a state dict in the order of its network's tensors. 4-d tensors are convolutions,
    `precision` is theirs."""
    parts: list[bytes] = []
    for tensor in state.values():
        if tensor.ndim != 4:
            parts.append(tensor.astype("<f4").tobytes())
        elif precision == "fp32":
            parts += [struct.pack("<I", _FP32), tensor.astype("<f4").tobytes()]
        else:
            weights = tensor.astype("<f2").tobytes()
            parts += [struct.pack("<I", _FP16), weights, b"\0" * (-len(weights) % 4)]
    return b"".join(parts)


def _tagged(data: bytes, at: int, shape: tuple[int, ...], layer: Layer) -> tuple[np.ndarray[Any, Any], int]:
    if at + 4 > len(data):
        raise WeightsRejected(f"the .bin ends before layer {layer.name!r}")
    (tag,) = struct.unpack_from("<I", data, at)
    if tag == _FP32:
        return _plain(data, at + 4, shape, layer)
    if tag != _FP16:
        raise WeightsRejected(f"layer {layer.name!r} is stored in a way that is not known (tag {tag:#010x})")
    count = int(np.prod(shape))
    end = at + 4 + (count * 2 + 3) // 4 * 4
    if end > len(data):
        raise WeightsRejected(f"the .bin ends within layer {layer.name!r}")
    return np.frombuffer(data, "<f2", count, at + 4).reshape(shape).astype(np.float32), end


def _plain(data: bytes, at: int, shape: tuple[int, ...], layer: Layer) -> tuple[np.ndarray[Any, Any], int]:
    count = int(np.prod(shape))
    end = at + count * 4
    if end > len(data):
        raise WeightsRejected(f"the .bin ends within layer {layer.name!r}")
    return np.frombuffer(data, "<f4", count, at).reshape(shape).astype(np.float32), end
