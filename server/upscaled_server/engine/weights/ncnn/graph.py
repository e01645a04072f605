"""The `.param` text as a graph, and back.

Source: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure. A line is
`type name inputs outputs input-blobs… output-blobs… key=value…`; a key of -23300 - k holds an array for k:
its length, then its values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from upscaled_server.errors import WeightsRejected

MAGIC = "7767517"
MAX_TEXT_BYTES = 1 << 20
_MAX_LAYERS = 8192
_MAX_BLOBS_OF_LAYER = 64
_MAX_NAME = 128
_MAX_KEYS = 32
_MAX_ARRAY = 16
_ARRAY_KEY = -23300
# Python and C differ in what separates words, so nothing is taken that only one of them takes for a space.
_TEXT = re.compile(rb"[\x20-\x7e\t\r\n]*")
_KEY = re.compile(r"-?[0-9]{1,6}")
# As long as ncnn reads them; it would take the rest for the next word.
_MAX_NUMBER = 15

Number = int | float
Value = Number | tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One line: blobs by name; `values` by key, an array under its plain key."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: dict[int, Value] = field(default_factory=dict)


def parse_graph(text: bytes) -> tuple[Layer, ...]:
    """The layers of a `.param` file. Raises `WeightsRejected` for anything that is not one, or is beyond the
    bounds.

    Every input blob has been produced by an earlier layer, exactly once, and is used at most once.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise WeightsRejected(
            f"a .param of {len(text)} bytes is too large", limit=MAX_TEXT_BYTES, actual=len(text)
        )
    if not _TEXT.fullmatch(text):
        raise WeightsRejected("the .param is not a text")
    lines = [line.strip() for line in text.decode("ascii").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 3 or lines[0] != MAGIC:
        raise WeightsRejected(f"the .param does not begin with {MAGIC}")
    layer_count, blob_count = _counts(lines[1])
    if len(lines) - 2 != layer_count:
        raise WeightsRejected(f"the .param announces {layer_count} layers and lists {len(lines) - 2}")
    layers = tuple(_layer(line, number) for number, line in enumerate(lines[2:], start=3))
    _check_wiring(layers, blob_count)
    return layers


def format_graph(layers: tuple[Layer, ...]) -> bytes:
    """The `.param` text of these layers."""
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [MAGIC, f"{len(layers)} {blobs}"]
    for layer in layers:
        head = [layer.type, layer.name, str(len(layer.inputs)), str(len(layer.outputs))]
        values = [_format(key, value) for key, value in layer.values.items()]
        lines.append(" ".join([*head, *layer.inputs, *layer.outputs, *values]))
    return ("\n".join(lines) + "\n").encode("ascii")


def _counts(line: str) -> tuple[int, int]:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 8 for part in parts):
        raise WeightsRejected("the .param's second line does not hold two counts")
    layers, blobs = int(parts[0]), int(parts[1])
    if not 1 <= layers <= _MAX_LAYERS or not 1 <= blobs <= _MAX_LAYERS * 4:
        raise WeightsRejected(
            f"a .param of {layers} layers and {blobs} blobs is beyond the bounds", limit=_MAX_LAYERS
        )
    return layers, blobs


def _layer(line: str, number: int) -> Layer:
    parts = line.split()
    if len(parts) < 4 or not all(part.isdecimal() and len(part) < 4 for part in parts[2:4]):
        raise WeightsRejected(f"line {number} of the .param is not a layer")
    inputs, outputs = int(parts[2]), int(parts[3])
    if max(inputs, outputs) > _MAX_BLOBS_OF_LAYER or len(parts) < 4 + inputs + outputs:
        raise WeightsRejected(f"line {number} of the .param has {inputs} inputs and {outputs} outputs")
    if any(len(part) > _MAX_NAME for part in parts):
        raise WeightsRejected(f"line {number} of the .param has a word longer than {_MAX_NAME} characters")
    blobs, rest = parts[4 : 4 + inputs + outputs], parts[4 + inputs + outputs :]
    values: dict[int, Value] = {}
    for word in rest:
        key, value = _value(word, number)
        if key in values:
            raise WeightsRejected(f"line {number} of the .param gives key {key} twice")
        values[key] = value
    return Layer(parts[0], parts[1], tuple(blobs[:inputs]), tuple(blobs[inputs:]), values)


def _value(word: str, number: int) -> tuple[int, Value]:
    key_text, equals, value_text = word.partition("=")
    try:
        key = int(key_text if _KEY.fullmatch(key_text) else "")
        numbers = tuple(_number(text) for text in value_text.split(","))
    except ValueError:
        raise WeightsRejected(f"line {number} of the .param: {word!r} is not key=value") from None
    if not equals:
        raise WeightsRejected(f"line {number} of the .param: {word!r} is not key=value")
    value: Value = numbers[0]
    if key <= _ARRAY_KEY:
        key = _ARRAY_KEY - key
        if numbers[0] != len(numbers) - 1 or len(numbers) - 1 > _MAX_ARRAY:
            raise WeightsRejected(f"line {number} of the .param: an array does not have the length it gives")
        value = numbers[1:]
    elif len(numbers) != 1:
        raise WeightsRejected(f"line {number} of the .param: {word!r} holds several values")
    if not 0 <= key < _MAX_KEYS:
        raise WeightsRejected(f"line {number} of the .param: there is no key {key}")
    return key, value


def _number(text: str) -> Number:
    if not text or len(text) > _MAX_NUMBER or not set(text) <= set("0123456789+-.eE"):
        raise ValueError(text)
    if any(mark in text for mark in ".eE"):
        return float(text)
    value = int(text)
    if not -(2**31) <= value < 2**31:
        raise ValueError(text)
    return value


def _check_wiring(layers: tuple[Layer, ...], blob_count: int) -> None:
    waiting: set[str] = set()
    produced: set[str] = set()
    for layer in layers:
        for blob in layer.inputs:
            if blob not in waiting:
                raise WeightsRejected(f"layer {layer.name!r} reads {blob!r}, which no earlier layer gives it")
            waiting.remove(blob)
        for blob in layer.outputs:
            if blob in produced:
                raise WeightsRejected(f"layer {layer.name!r} gives {blob!r} a second time")
            produced.add(blob)
            waiting.add(blob)
    if len(produced) != blob_count:
        raise WeightsRejected(f"the .param announces {blob_count} blobs and has {len(produced)}")


def _format(key: int, value: Value) -> str:
    if isinstance(value, tuple):
        return f"{_ARRAY_KEY - key}={len(value)}," + ",".join(_format_number(number) for number in value)
    return f"{key}={_format_number(value)}"


def _format_number(value: Number) -> str:
    return str(value) if isinstance(value, int) else f"{value:e}"
