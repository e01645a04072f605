"""Whether a graph is one of the networks we run: only known layers, with the only parameters we know, and
sizes that agree.

ncnn would read outside its buffers for a graph whose sizes do not agree, so every blob's size is worked out
here. What passes is a network of the given architecture up to the names of its blobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.weights.ncnn.graph import Layer, Value
from upscaled_server.errors import WeightsRejected


@dataclass(frozen=True, slots=True)
class Blob:
    """`channels` planes, each `scale` times the image's size along both axes."""

    channels: int
    scale: Fraction


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """`input`, `output`: blob names. `trunk_end`: the blob between trunk and tail of an RRDB network, else
    None."""

    layers: tuple[Layer, ...]
    input: str
    output: str
    trunk_end: str | None


def check_graph(layers: tuple[Layer, ...], architecture: Architecture) -> CheckedGraph:
    """Raises `WeightsRejected`, naming the layer, for a graph that is not a network of this architecture."""
    blobs: dict[str, Blob] = {}
    used: set[str] = set()
    for position, layer in enumerate(layers):
        rule = _RULES.get(layer.type)
        if rule is None:
            raise WeightsRejected(f"layer {layer.name!r}: type {layer.type!r} is not in these networks")
        if (layer.type == "Input") != (position == 0):
            raise WeightsRejected("the graph does not have one input, which comes first")
        inputs = [blobs[name] for name in layer.inputs]
        used.update(layer.inputs)
        outputs = rule(layer, inputs)
        if len(outputs) != len(layer.outputs):
            raise WeightsRejected(
                f"layer {layer.name!r} gives {len(layer.outputs)} blobs instead of {len(outputs)}"
            )
        blobs.update(zip(layer.outputs, outputs, strict=True))
    ends = [name for name in blobs if name not in used]
    if len(ends) != 1 or blobs[ends[0]] != Blob(3, Fraction(architecture.scale)):
        raise WeightsRejected(
            f"the graph does not end in one RGB image of {architecture.scale} times the size"
        )
    _check_sequence(layers, architecture)
    return CheckedGraph(layers, layers[0].outputs[0], ends[0], _trunk_end(layers, blobs, architecture))


def conv_inputs(layer: Layer) -> int:
    """The input channels of a convolution that passed the check."""
    outputs, weights = layer.values[0], layer.values[6]
    if not isinstance(outputs, int) or not isinstance(weights, int) or outputs < 1 or weights % (outputs * 9):
        raise WeightsRejected(f"layer {layer.name!r} has {weights} weights for {outputs} channels")
    return weights // (outputs * 9)


def _check_sequence(layers: tuple[Layer, ...], architecture: Architecture) -> None:
    """The tensors in their order, and the part behind the trunk literally: it is run apart from the trunk."""
    found = [layer for layer in layers if layer.type in ("Convolution", "PReLU")]
    shapes = [shape for name, shape in architecture.shapes().items() if name.endswith("weight")]
    if len(found) != len(shapes):
        raise WeightsRejected(f"the graph has {len(found)} layers with weights instead of {len(shapes)}")
    for layer, shape in zip(found, shapes, strict=True):
        actual = (
            (layer.values.get(0),) if layer.type == "PReLU" else (layer.values[0], conv_inputs(layer), 3, 3)
        )
        if actual != shape:
            raise WeightsRejected(f"layer {layer.name!r} has the shape {actual} instead of {shape}")
    types = [layer.type for layer in layers if layer.type not in ("Split", "ReLU")]
    if isinstance(architecture, Rrdb):
        tail = ["Interp", "Convolution", "Interp", "Convolution", "Convolution", "Convolution"]
        if types[-len(tail) :] != tail or "Interp" in types[: -len(tail)]:
            raise WeightsRejected("the graph's tail is not that of an RRDB network")
    else:
        body = ["Input", *["Convolution", "PReLU"] * (architecture.convs + 1), "Convolution"]
        if types != [*body, "PixelShuffle", "Interp", "BinaryOp"]:
            raise WeightsRejected("the graph's layers are not those of a compact network")


def _trunk_end(layers: tuple[Layer, ...], blobs: dict[str, Blob], architecture: Architecture) -> str | None:
    if isinstance(architecture, Compact):
        return None
    first = next(layer for layer in layers if layer.type == "Interp")
    end = first.inputs[0]
    if blobs[end] != Blob(architecture.features, Fraction(1, architecture.unshuffle)):
        raise WeightsRejected("the graph's trunk does not end where its tail begins")
    return end


def _expect(
    layer: Layer, inputs: list[Blob], count: int, *, fixed: dict[int, Value], free: tuple[int, ...] = ()
) -> None:
    """`fixed`: keys with the one value that we know, which is also ncnn's default unless `_need` asks for the
    key."""
    if len(inputs) != count:
        raise WeightsRejected(f"layer {layer.name!r} has {len(inputs)} inputs instead of {count}")
    for key, value in layer.values.items():
        if key in free:
            continue
        if key not in fixed or not _same(value, fixed[key]):
            raise WeightsRejected(f"layer {layer.name!r} ({layer.type}): {key}={value} is not known")


def _same(left: Value, right: Value) -> bool:
    if isinstance(left, tuple) or isinstance(right, tuple):
        if not isinstance(left, tuple) or not isinstance(right, tuple) or len(left) != len(right):
            return False
        return all(abs(a - b) < 1e-6 for a, b in zip(left, right, strict=True))
    return abs(left - right) < 1e-6


def _need(layer: Layer, *keys: int) -> None:
    for key in keys:
        if key not in layer.values:
            raise WeightsRejected(f"layer {layer.name!r} ({layer.type}): {key} is missing")


def _equal(layer: Layer, inputs: list[Blob]) -> Blob:
    if any(blob != inputs[0] for blob in inputs):
        raise WeightsRejected(f"layer {layer.name!r} joins blobs of different sizes")
    return inputs[0]


def _input(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 0, fixed={})
    return [Blob(3, Fraction(1))]


def _split(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 1, fixed={})
    return [inputs[0]] * len(layer.outputs)


def _convolution(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    # 3x3, stride 1, padding 1, bias, and the leaky ReLU of 0.2 or no activation.
    fixed: dict[int, Value] = {
        1: 3,
        11: 3,
        2: 1,
        12: 1,
        3: 1,
        13: 1,
        4: 1,
        14: 1,
        15: 1,
        16: 1,
        5: 1,
        18: 0.0,
        8: 0,
    }
    _need(layer, 0, 1, 4, 5, 6)
    activation = layer.values.get(9, 0)
    if activation == 2:
        _need(layer, 10)
        fixed |= {9: 2, 10: (0.2,)}
    else:
        fixed |= {9: 0}
    _expect(layer, inputs, 1, fixed=fixed, free=(0, 6))
    if conv_inputs(layer) != inputs[0].channels:
        raise WeightsRejected(
            f"layer {layer.name!r} wants {conv_inputs(layer)} channels and gets {inputs[0].channels}"
        )
    outputs = layer.values[0]
    if not isinstance(outputs, int) or not 1 <= outputs <= 1024:
        raise WeightsRejected(f"layer {layer.name!r} has {outputs} channels")
    return [Blob(outputs, inputs[0].scale)]


def _prelu(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 1, fixed={0: inputs[0].channels if inputs else 0})
    _need(layer, 0)
    return [inputs[0]]


def _relu(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 1, fixed={0: 0.2})
    _need(layer, 0)
    return [inputs[0]]


def _pixel_shuffle(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 1, fixed={0: 4, 1: 0})
    _need(layer, 0)
    if inputs[0].channels % 16:
        raise WeightsRejected(f"layer {layer.name!r} cannot shuffle {inputs[0].channels} channels")
    return [Blob(inputs[0].channels // 16, inputs[0].scale * 4)]


def _reorg(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, 1, fixed={0: 2, 1: 0})
    _need(layer, 0)
    return [Blob(inputs[0].channels * 4, inputs[0].scale / 2)]


def _interp(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _need(layer, 0, 1, 2)
    factor = layer.values[1]
    if isinstance(factor, tuple) or factor not in (2, 4):
        raise WeightsRejected(f"layer {layer.name!r} enlarges by {factor}")
    _expect(layer, inputs, 1, fixed={0: 1, 1: factor, 2: factor, 3: 0, 4: 0, 5: 0, 6: 0})
    return [Blob(inputs[0].channels, inputs[0].scale * Fraction(int(factor)))]


def _concat(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    _expect(layer, inputs, len(inputs), fixed={0: 0})
    if not inputs or any(blob.scale != inputs[0].scale for blob in inputs):
        raise WeightsRejected(f"layer {layer.name!r} joins blobs of different sizes")
    return [Blob(sum(blob.channels for blob in inputs), inputs[0].scale)]


def _eltwise(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    # a * 0.2 + b: how a dense block joins its input.
    _expect(layer, inputs, 2, fixed={0: 1, 1: (0.2, 1.0)})
    _need(layer, 0, 1)
    return [_equal(layer, inputs)]


def _binary_op(layer: Layer, inputs: list[Blob]) -> list[Blob]:
    if len(inputs) == 1:
        # The same as Eltwise, in two layers: a * 0.2 first.
        _expect(layer, inputs, 1, fixed={0: 2, 1: 1, 2: 0.2})
        _need(layer, 0, 1, 2)
        return [inputs[0]]
    _expect(layer, inputs, 2, fixed={0: 0, 1: 0, 2: 0.0})
    return [_equal(layer, inputs)]


_RULES: dict[str, Callable[[Layer, list[Blob]], list[Blob]]] = {
    "Input": _input,
    "Split": _split,
    "Convolution": _convolution,
    "PReLU": _prelu,
    "ReLU": _relu,
    "PixelShuffle": _pixel_shuffle,
    "Reorg": _reorg,
    "Interp": _interp,
    "Concat": _concat,
    "Eltwise": _eltwise,
    "BinaryOp": _binary_op,
}
