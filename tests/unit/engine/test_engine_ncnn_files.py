"""The ncnn format: what we write we read, and hostile files end in our parser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.weights.ncnn.graph import Layer, format_graph, parse_graph
from upscaled_server.engine.weights.ncnn.model import NcnnModel, read_ncnn, write_ncnn
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import WeightsRejected

ARCHITECTURES = [
    Compact(convs=2, features=8),
    Rrdb(blocks=1, features=8, growth=4),
    Rrdb(blocks=1, scale=2, features=8, growth=4),
]


def _state(architecture: Architecture) -> StateDict:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in architecture.shapes().items()
    }


def _model() -> tuple[NcnnModel, Compact]:
    architecture = Compact(convs=1, features=8)
    return write_ncnn(_state(architecture), architecture), architecture


MODEL, TINY = _model()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
def test_what_is_written_is_read_back_exactly(architecture: Architecture) -> None:
    state = _state(architecture)
    model = write_ncnn(state, architecture)
    again, tensors = read_ncnn(model.param, model.bin, architecture, "test")
    assert again.trunk_end == model.trunk_end
    assert list(tensors) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensors[name], tensor)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
def test_half_precision_keeps_eleven_bits(architecture: Architecture) -> None:
    state = _state(architecture)
    model = write_ncnn(state, architecture, "fp16")
    _, tensors = read_ncnn(model.param, model.bin, architecture, "test")
    assert len(model.bin) < 0.6 * len(write_ncnn(state, architecture).bin)
    for name, tensor in state.items():
        np.testing.assert_allclose(tensors[name], tensor, rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("separator", [b"\x1c", b"\x1f", b"\x0b", b"\x0c", b"\x85", b"\0"])
def test_only_what_separates_words_for_ncnn_too_separates_them(separator: bytes) -> None:
    """ncnn, which is given the same text, would see one word where we see two, or the reverse."""
    with pytest.raises(WeightsRejected, match="not a text"):
        read_ncnn(MODEL.param.replace(b" 0=8 ", separator + b"0=8 ", 1), MODEL.bin, TINY, "test")


@pytest.mark.parametrize("word", [b"0=0000000000000008", b"1_0=8", b"+0=8", b" 0=8 0_=8"])
def test_a_number_is_one_for_ncnn_too(word: bytes) -> None:
    with pytest.raises(WeightsRejected, match="not key=value"):
        read_ncnn(MODEL.param.replace(b" 0=8 ", b" " + word + b" ", 1), MODEL.bin, TINY, "test")


def test_a_graph_survives_its_text() -> None:
    layers = MODEL.graph.layers
    assert parse_graph(format_graph(layers)) == layers


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"7767517",
        b"7767517\n",
        b"1\n1 1\nInput in 0 1 data\n",
        b"7767517\n99999999 1\nInput in 0 1 data\n",
        b"7767517\n1 99999999999999999999\nInput in 0 1 data\n",
        b"7767517\n-1 1\nInput in 0 1 data\n",
        b"7767517\n2 1\nInput in 0 1 data\n",
        b"7767517\n1 2\nInput in 0 1 data\n",
        b"7767517\n1 1\nInput in 0 999 data\n",
        b"7767517\n1 1\nInput in 0 1\n",
        b"7767517\n1 1\nInput in 0 1 data 0=1=2\n",
        b"7767517\n1 1\nInput in 0 1 data 99=1\n",
        b"7767517\n1 1\nInput in 0 1 data 0=99999999999\n",
        b"7767517\n1 1\nInput in 0 1 data -23300=999999,1\n",
        b"7767517\n1 1\nInput in 0 1 data 0=nan\n",
        b"7767517\n1 1\nInput in 0 1 " + b"d" * 5000 + b"\n",
        b"7767517\n2 2\nInput in 0 1 data\nReLU r 1 1 other out\n",
        b"7767517\n2 2\nInput in 0 1 data\nReLU r 1 1 data data\n",
        b"\xff\xfe\x00\x00",
        b"7767517\n" + b"x" * (2 << 20),
    ],
)
def test_a_malformed_param_is_refused(text: bytes) -> None:
    with pytest.raises(WeightsRejected):
        read_ncnn(text, MODEL.bin, TINY, "test")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Convolution ", b"Yolov3DetectionOutput "),
        (b"6=216", b"6=2147483647"),
        (b"6=216", b"6=0"),
        (b"0=8", b"0=0"),
        (b"0=8", b"0=-8"),
        (b"4=1", b"4=-233"),
        (b"4=1", b"4=1 2=1000000"),
        (b"1=3", b"1=30000"),
        (b"5=1", b"5=0"),
        (b"5=1", b"5=1 8=1"),
        (b"0=4\n", b"0=4000000\n"),
        (b"1=4.000000e+00", b"1=4.000000e+09"),
        (b"1=4.000000e+00", b"1=2.000000e+00"),
        (b"0=1 1=", b"0=3 1="),
        (b"BinaryOp binaryop_8 2 1", b"Concat binaryop_8 2 1"),
    ],
)
def test_a_graph_with_other_layers_or_sizes_is_refused(old: bytes, new: bytes) -> None:
    assert old in MODEL.param, MODEL.param
    with pytest.raises(WeightsRejected):
        read_ncnn(MODEL.param.replace(old, new, 1), MODEL.bin, TINY, "test")


def test_another_architecture_is_refused() -> None:
    with pytest.raises(WeightsRejected):
        read_ncnn(MODEL.param, MODEL.bin, Compact(convs=2, features=8), "test")


@given(st.integers(0, len(MODEL.bin) - 1))
def test_a_truncated_bin_is_refused(length: int) -> None:
    with pytest.raises(WeightsRejected):
        read_ncnn(MODEL.param, MODEL.bin[:length], TINY, "test")


def test_a_bin_with_more_behind_it_is_refused() -> None:
    with pytest.raises(WeightsRejected, match="bytes"):
        read_ncnn(MODEL.param, MODEL.bin + b"\0\0\0\0", TINY, "test")


@pytest.mark.parametrize("tag", [0x000D4B38, 0x0002C056, 1, 0xFFFFFFFF])
def test_a_storage_we_do_not_know_is_refused(tag: int) -> None:
    data = tag.to_bytes(4, "little") + MODEL.bin[4:]
    with pytest.raises(WeightsRejected):
        read_ncnn(MODEL.param, data, TINY, "test")


def test_numbers_that_are_none_are_refused() -> None:
    data = bytearray(MODEL.bin)
    data[4:8] = np.float32("nan").tobytes()
    with pytest.raises(WeightsRejected, match=r"body\.0\.weight"):
        read_ncnn(MODEL.param, bytes(data), TINY, "test")


@settings(max_examples=200)
@given(st.integers(0, len(MODEL.param) - 1), st.integers(0, 255))
def test_a_changed_byte_of_the_param_is_refused_or_harmless(position: int, value: int) -> None:
    text = bytearray(MODEL.param)
    text[position] = value
    try:
        model, _ = read_ncnn(bytes(text), MODEL.bin, TINY, "test")
    except WeightsRejected:
        return
    # Only names may have changed.
    assert _shape(model.graph.layers) == _shape(MODEL.graph.layers)


def _shape(layers: tuple[Layer, ...]) -> list[object]:
    return [(layer.type, len(layer.inputs), len(layer.outputs)) for layer in layers]


@pytest.mark.parametrize(
    ("change", "name"), [("missing", "body.2.bias"), ("shape", "body.0.weight"), ("extra", "more")]
)
def test_a_state_dict_that_does_not_fit_names_the_tensor(change: str, name: str) -> None:
    state = _state(TINY)
    if change == "missing":
        del state[name]
    elif change == "shape":
        state[name] = state[name][:4]
    else:
        state[name] = np.zeros(3, np.float32)
    with pytest.raises(WeightsRejected, match=name):
        write_ncnn(state, TINY)
