"""The ncnn graph of an architecture: our own converter's half that knows the networks."""

from __future__ import annotations

from collections import Counter

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.weights.ncnn.graph import Layer, Value

_ADD = 0
_NEAREST = 1


def build_graph(architecture: Architecture) -> tuple[Layer, ...]:
    """The layers, in the order of the architecture's tensors; input blob `data`, output blob `output`."""
    builder = _Builder()
    if isinstance(architecture, Compact):
        _compact(builder, architecture)
    else:
        _rrdb(builder, architecture)
    return builder.finish()


class _Builder:
    """Collects layers; a blob may be used any number of times, `finish` inserts the Split layers that ncnn
    wants."""

    def __init__(self) -> None:
        self._layers: list[Layer] = [Layer("Input", "input", (), ("data",))]

    def add(self, kind: str, inputs: tuple[str, ...], values: dict[int, Value], output: str = "") -> str:
        number = len(self._layers)
        output = output or f"b{number}"
        self._layers.append(Layer(kind, f"{kind.lower()}_{number}", inputs, (output,), values))
        return output

    def conv(self, blob: str, inputs: int, outputs: int, *, leaky: bool = False, output: str = "") -> str:
        values: dict[int, Value] = {0: outputs, 1: 3, 4: 1, 5: 1, 6: outputs * inputs * 9}
        if leaky:
            values |= {9: 2, 10: (0.2,)}
        return self.add("Convolution", (blob,), values, output)

    def nearest(self, blob: str, factor: int) -> str:
        return self.add("Interp", (blob,), {0: _NEAREST, 1: float(factor), 2: float(factor)})

    def finish(self) -> tuple[Layer, ...]:
        uses = Counter(blob for layer in self._layers for blob in layer.inputs)
        seen: Counter[str] = Counter()
        finished: list[Layer] = []
        for layer in self._layers:
            inputs = []
            for blob in layer.inputs:
                inputs.append(f"{blob}_{seen[blob]}" if uses[blob] > 1 else blob)
                seen[blob] += 1
            finished.append(Layer(layer.type, layer.name, tuple(inputs), layer.outputs, layer.values))
            for blob in layer.outputs:
                if uses[blob] > 1:
                    copies = tuple(f"{blob}_{index}" for index in range(uses[blob]))
                    finished.append(Layer("Split", f"split_{blob}", (blob,), copies))
        return tuple(finished)


def _compact(builder: _Builder, architecture: Compact) -> None:
    features, scale = architecture.features, architecture.scale
    blob, channels = "data", 3
    for _ in range(architecture.convs + 1):
        blob = builder.conv(blob, channels, features)
        blob = builder.add("PReLU", (blob,), {0: features})
        channels = features
    blob = builder.conv(blob, features, 3 * scale * scale)
    blob = builder.add("PixelShuffle", (blob,), {0: scale})
    enlarged = builder.nearest("data", scale)
    builder.add("BinaryOp", (blob, enlarged), {0: _ADD}, output="output")


def _rrdb(builder: _Builder, architecture: Rrdb) -> None:
    features, growth = architecture.features, architecture.growth
    blob = "data"
    if architecture.unshuffle > 1:
        blob = builder.add("Reorg", (blob,), {0: architecture.unshuffle})
    first = builder.conv(blob, 3 * architecture.unshuffle**2, features)
    blob = first
    for _ in range(architecture.blocks):
        block = blob
        for _ in range(3):
            blob = _dense(builder, blob, features, growth)
        blob = builder.add("Eltwise", (blob, block), {0: 1, 1: (0.2, 1.0)})
    blob = builder.conv(blob, features, features)
    blob = builder.add("BinaryOp", (first, blob), {0: _ADD})
    for _ in range(2):
        blob = builder.nearest(blob, 2)
        blob = builder.conv(blob, features, features, leaky=True)
    blob = builder.conv(blob, features, features, leaky=True)
    builder.conv(blob, features, 3, output="output")


def _dense(builder: _Builder, start: str, features: int, growth: int) -> str:
    blobs = [start]
    for layer in range(4):
        joined = blobs[0] if layer == 0 else builder.add("Concat", tuple(blobs), {})
        blobs.append(builder.conv(joined, features + layer * growth, growth, leaky=True))
    joined = builder.add("Concat", tuple(blobs), {})
    last = builder.conv(joined, features + 4 * growth, features)
    return builder.add("Eltwise", (last, start), {0: 1, 1: (0.2, 1.0)})
