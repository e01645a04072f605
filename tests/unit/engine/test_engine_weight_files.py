"""`.pth` and `.safetensors`: read into the neutral form by either reader, and never run."""

from __future__ import annotations

import io
import pickle
import resource
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from upscaled_server.engine.architectures import Compact
from upscaled_server.engine.weights import pth_file
from upscaled_server.engine.weights.files import read_state
from upscaled_server.engine.weights.pth_file import read_pth
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.errors import WeightsRejected

READERS = pytest.mark.parametrize("with_torch", [True, False], ids=["torch", "without torch"])


def _pth(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _tensors(state: StateDict) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((name, torch.from_numpy(array)) for name, array in state.items())


class _Canary:
    """Its unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@READERS
@pytest.mark.parametrize("wrapper", [None, "params", "params_ema"])
def test_a_pth_is_read_from_each_of_its_wrappers(
    tiny_state: StateDict, wrapper: str | None, with_torch: bool
) -> None:
    content: Any = _tensors(tiny_state)
    if wrapper is not None:
        content = {wrapper: content}
    tensors = read_pth(_pth(content), "test", with_torch=with_torch)
    assert list(tensors) == list(tiny_state)
    for name, array in tiny_state.items():
        np.testing.assert_array_equal(tensors[name], array)


@READERS
def test_the_averaged_weights_come_before_the_plain_ones(tiny_state: StateDict, with_torch: bool) -> None:
    other = {name: array + 1 for name, array in tiny_state.items()}
    tensors = read_pth(
        _pth({"params": _tensors(other), "params_ema": _tensors(tiny_state)}), "t", with_torch=with_torch
    )
    np.testing.assert_array_equal(tensors["body.0.weight"], tiny_state["body.0.weight"])


@READERS
def test_half_precision_parameters_and_views_are_read(with_torch: bool) -> None:
    shared = torch.arange(64, dtype=torch.float16).reshape(8, 8)
    content = {"half": shared, "view": shared.t()[1:3], "parameter": torch.nn.Parameter(torch.ones(3))}
    tensors = read_pth(_pth(content), "test", with_torch=with_torch)
    np.testing.assert_array_equal(np.asarray(tensors["view"], np.float32), shared.t()[1:3].float().numpy())
    assert tensors["parameter"].tolist() == [1, 1, 1]


@READERS
def test_a_pth_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, with_torch: bool) -> None:
    canary = tmp_path / "canary"
    data = _pth({"params": {"body.0.weight": torch.ones(3)}, "more": _Canary(canary)})
    with pytest.raises(WeightsRejected, match="more than tensors"):
        read_pth(data, "hostile.pth", with_torch=with_torch)
    assert not canary.exists()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        assert b"touch" in archive.read(name), "the canary is armed"


@READERS
def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path, with_torch: bool) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(WeightsRejected):
        read_pth(pickle.dumps(_Canary(canary)), "hostile.pth", with_torch=with_torch)
    assert not canary.exists()


@READERS
@pytest.mark.parametrize("content", [[], {}, {"a": 1}, {"params": {"a": "text"}}, {1: torch.ones(2)}])
def test_a_pth_without_tensors_by_name_is_refused(content: Any, with_torch: bool) -> None:
    with pytest.raises(WeightsRejected):
        read_pth(_pth(content), "test", with_torch=with_torch)


@READERS
def test_damaged_bytes_of_a_pth_are_refused_or_change_numbers_only(
    tiny_state: StateDict, with_torch: bool
) -> None:
    data = _pth(_tensors(tiny_state))
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 50):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(0, 8))
        try:
            tensors = read_pth(bytes(changed), "test", with_torch=with_torch)
        except WeightsRejected:
            continue
        assert all(isinstance(array, np.ndarray) for array in tensors.values())


@READERS
def test_a_truncated_pth_is_refused(tiny_state: StateDict, with_torch: bool) -> None:
    data = _pth(_tensors(tiny_state))
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(WeightsRejected):
            read_pth(data[:length], "test", with_torch=with_torch)


@READERS
@pytest.mark.parametrize("opcode", [b"r\0\0\0\x7f", b"p2000000000\n"])
def test_a_pickle_that_reserves_memory_is_refused(opcode: bytes, with_torch: bool) -> None:
    """Ours would take 30 GB for these few bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + opcode + b".")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3\n")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, before[1]))
    try:
        with pytest.raises(WeightsRejected, match="" if with_torch else "names the place"):
            read_pth(buffer.getvalue(), "hostile.pth", with_torch=with_torch)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pth_file, "_MAX_UNPACKED_BYTES", 1 << 20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes((1 << 20) + 1))
    assert len(buffer.getvalue()) < 10_000
    with pytest.raises(WeightsRejected, match="unpacks"):
        read_pth(buffer.getvalue(), "bomb.pth")


def test_safetensors_are_read(tiny: Compact, tiny_state: StateDict) -> None:
    state = read_state(save(tiny_state), Path("x.safetensors"), tiny)
    for name, array in tiny_state.items():
        np.testing.assert_array_equal(state[name], array)


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x10\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_safetensors_are_refused(tiny: Compact, data: bytes) -> None:
    with pytest.raises(WeightsRejected):
        read_state(data, Path("x.safetensors"), tiny)


def test_a_tensor_of_another_shape_is_named(tiny: Compact, tiny_state: StateDict) -> None:
    tiny_state["body.2.weight"] = tiny_state["body.2.weight"][:, :4]
    with pytest.raises(WeightsRejected, match=r"body\.2\.weight") as caught:
        read_state(save(tiny_state), Path("x.safetensors"), tiny)
    assert caught.value.numbers["tensor"] == "body.2.weight"
