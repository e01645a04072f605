"""The ncnn graph of a network in bands: every convolution on its own, with what follows it at once.

What joins, adds and enlarges is done between them, see `ncnn_bands.py`; the convolutions come in the order of
the architecture's tensors, so the `.bin` of the plain network fits. They pad nothing: the rows and columns
around are in their input, zero ones where the image ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from upscaled_server.engine.bands.graph import LEAKY_SLOPE, StreamGraph
from upscaled_server.engine.weights.ncnn.graph import Layer, Value, format_graph

# The feature mask of a layer: no sgemm (bit 5), no Winograd (bit 6). Three channels are too few for either:
# the plain convolution is twice as fast.
_PLAIN = 0b110_0000
_FEW_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Blobs:
    """The numbers of a convolution's input and output."""

    source: int
    result: int


def convolutions(graph: StreamGraph) -> tuple[bytes, dict[str, Blobs]]:
    """The `.param` text, and the blobs of each convolution by its operation's name."""
    layers: list[Layer] = []
    blobs: dict[str, Blobs] = {}
    count = 0

    def add(kind: str, inputs: tuple[str, ...], values: dict[int, Value]) -> str:
        nonlocal count
        # ncnn numbers blobs in the order in which they appear as outputs, and so are they named here.
        layers.append(Layer(kind, f"l{len(layers)}", inputs, (f"b{count}",), values))
        count += 1
        return f"b{count - 1}"

    for op in graph.ops:
        if op.kind != "conv":
            continue
        inputs = sum(graph.channels[edge.blob] for edge in op.edges)
        values: dict[int, Value] = {0: op.channels, 1: 3, 5: 1, 6: op.channels * inputs * 9}
        if op.activation == "leaky":
            values |= {9: 2, 10: (LEAKY_SLOPE,)}
        if op.channels <= _FEW_CHANNELS:
            values[31] = _PLAIN
        source = add("Input", (), {})
        result = add("Convolution", (source,), values)
        if op.activation == "prelu":
            result = add("PReLU", (result,), {0: op.channels})
        blobs[op.name] = Blobs(int(source[1:]), int(result[1:]))
    return format_graph(tuple(layers)), blobs
