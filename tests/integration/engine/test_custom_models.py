"""Models of the operator's folder: files of other architectures, made by spandrel with random weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.integration.engine.truth import Photo

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.custom import scan
from upscaled_server.engine.custom.files import Listing, list_files
from upscaled_server.engine.custom.load import load_custom
from upscaled_server.engine.custom.scan import FolderModels
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.shims import import_spandrel
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.errors import WeightsRejected
from upscaled_server.tiling.choose import choose_plan


def _span() -> torch.nn.Module:
    """A small convolutional network that is none of ours."""
    import_spandrel()
    from spandrel.architectures.SPAN import SPAN

    network: torch.nn.Module = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2)
    return network


def _swin() -> torch.nn.Module:
    """A small transformer, which looks at windows of 8 pixels."""
    import_spandrel()
    from spandrel.architectures.SwinIR import SwinIR

    network: torch.nn.Module = SwinIR(
        img_size=16,
        depths=[2],
        embed_dim=12,
        num_heads=[2],
        window_size=8,
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    return network


def _save(network: torch.nn.Module, path: Path) -> Path:
    torch.manual_seed(3)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)
    return path


async def _scan(folder: Path, cache: Path) -> tuple[Catalogue, FolderModels]:
    catalogue = Catalogue()
    models = FolderModels(catalogue, folder, cache)
    await models.refresh()
    return catalogue, models


def _upscale(engine: Engine, name: str, image: np.ndarray[Any, Any], side: int = 0) -> np.ndarray[Any, Any]:
    """Whole, or in tiles of at most this side."""
    plan = engine.plan(name, image.shape[1], image.shape[0])
    if side:
        traits = engine.traits(name)
        budget = (side + 2 * traits.halo) ** 2 * traits.bytes_per_input_pixel * 2
        plan = choose_plan(image.shape[1], image.shape[0], traits, budget, 1, step_seconds=0)
        assert plan.rows * plan.columns > 1
    run = engine.open_run(name, plan, 8)
    run.feed(image)
    rows = []
    while not run.done:
        rows.append(run.step())
    run.close()
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("make", "file", "multiple"),
    [(_span, "mine-2x_SPAN.safetensors", 1), (_swin, "tiny-swin.pth", 8), (_span, "mine.ckpt", 1)],
)
async def test_a_file_in_the_folder_is_measured_listed_and_upscales_the_same_in_tiles(
    make: Callable[[], torch.nn.Module],
    file: str,
    multiple: int,
    tmp_path: Path,
    photo: Photo,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    folder, cache = tmp_path / "models", tmp_path / "cache"
    folder.mkdir()
    path = _save(make(), folder / file)
    catalogue, models = await _scan(folder, cache)

    assert catalogue.names[-1] == path.stem, caplog.text
    spec = catalogue.resolve(path.stem)
    assert isinstance(spec, CustomModel)
    assert (spec.scale, spec.multiple) == (2, multiple)
    assert 0 < spec.halo <= 64
    assert spec.halo % multiple == 0

    engine = Engine(
        choose_device("cpu"), WeightStore(StoreOptions(cache, folder, download=False)), Catalogue()
    )
    engine.learn(spec)
    provenance = engine.load(spec.name)
    assert (provenance.backend, provenance.weights.sha256) == ("torch", spec.sha256)
    image = photo(131, 90)
    whole = _upscale(engine, spec.name, image)
    assert whole.shape == (180, 262, 3)
    assert whole.std() > 1
    tiled = _upscale(engine, spec.name, image, side=40)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    engine.close()

    _, again = await _scan(folder, cache)
    assert "measuring" not in caplog.text.split("is a model", 2)[-1], "what was measured is kept"
    path.unlink()
    await models.refresh()
    await again.refresh()
    assert path.stem not in catalogue.names


async def test_files_that_are_no_such_network_are_refused_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.pth").write_bytes(b"this is no network")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "unknown.pth")
    catalogue, models = await _scan(tmp_path, tmp_path / "cache")
    await models.refresh()
    assert len(catalogue.names) == 6
    refused = [record for record in caplog.records if "is not used" in record.message]
    assert len(refused) == 3


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "it-ran",))

    torch.save({"params": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(WeightsRejected, match="more than tensors"):
        load_custom((tmp_path / "bomb.pth").read_bytes(), ".pth", "bomb.pth")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TorchScript archive")
def test_a_script_of_torch_is_not_run(tmp_path: Path) -> None:
    script: Any = torch.jit.script(torch.nn.ReLU())
    script.save(str(tmp_path / "script.pt"))
    with pytest.raises(WeightsRejected, match="TorchScript"):
        load_custom((tmp_path / "script.pt").read_bytes(), ".pt", "script.pt")


async def test_a_small_file_that_makes_a_huge_picture_is_refused_before_it_takes_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_spandrel()
    from spandrel.architectures.Compact import Compact

    # 2 MB of weights; every input pixel becomes 16,384, which are 600 MB for the first picture that is tried.
    path = _save(Compact(num_in_ch=3, num_out_ch=3, num_feat=1, num_conv=1, upscale=128), tmp_path / "x.pth")
    assert path.stat().st_size < 3 << 20
    monkeypatch.setattr(scan, "usable_memory", lambda: 1 << 30)
    catalogue, _ = await _scan(tmp_path, tmp_path / "cache")
    assert len(catalogue.names) == 6
    assert "x.pth is not used: x.pth needs more than 1024 MiB to be measured" in caplog.text


def test_a_quarter_of_the_memory_may_be_taken_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "usable_memory", lambda: 64 << 30)
    assert scan._measure_bytes() == 16 << 30


def test_files_of_catalogue_models_and_odd_ones_are_passed_over(tmp_path: Path) -> None:
    of_the_catalogue = ("RealESRGAN_x4plus.pth", "RealESRGAN_x4plus.pt", "RealESRGAN_x4plus.param")
    odd = ("-x.pth", "new\nline.pth", "my model.safetensors", "B.ckpt", "d.onnx", "e.param")
    for name in (*of_the_catalogue, *odd, "a.txt", "e.bin", "b.pth", "b.safetensors", "c.ckpt", "c.pt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.pth").mkdir()
    files = list_files(tmp_path, ["realesrgan_x4plus"])
    assert {file.path.name for file in files.models.values()} == {"b.safetensors", "c.pt"}
    why = files.passed_over
    assert set(why) == {*odd, "b.pth", "c.ckpt"}
    assert why["b.pth"] == why["B.ckpt"] == "b.safetensors has this name already"
    assert "convert it to .safetensors" in why["d.onnx"]
    assert "1 to 80 letters" in why["my model.safetensors"]
    assert "ncnn" in why["e.param"]
    assert list_files(tmp_path / "missing", []) == list_files(None, []) == Listing({}, {})


def test_there_is_a_bound_to_the_models_of_a_folder(tmp_path: Path) -> None:
    for number in range(258):
        (tmp_path / f"m{number:03}.pth").write_bytes(b"x")
    files = list_files(tmp_path, [])
    assert len(files.models) == 256
    assert files.passed_over == dict.fromkeys(("m256.pth", "m257.pth"), "there are more than 256 models")


async def test_what_is_passed_over_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "new\nline.onnx").write_bytes(b"x")
    _, models = await _scan(tmp_path, tmp_path / "cache")
    await models.refresh()
    (said,) = [record.message for record in caplog.records if "is not used" in record.message]
    assert said.startswith("'new\\nline.onnx' is not used: this format cannot be read")
    (tmp_path / "new\nline.onnx").unlink()
    await models.refresh()
    (tmp_path / "new\nline.onnx").write_bytes(b"x")
    await models.refresh()
    assert len([record for record in caplog.records if "is not used" in record.message]) == 2


async def test_a_changed_file_is_another_model_to_the_engine(tmp_path: Path, photo: Photo) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "changing.pth"
    results = []
    engine = Engine(
        choose_device("cpu"), WeightStore(StoreOptions(tmp_path, folder, download=False)), Catalogue()
    )
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = _span()
        _save(network, path)
        catalogue, _ = await _scan(folder, tmp_path / "cache")
        spec = catalogue.resolve("changing")
        assert isinstance(spec, CustomModel)
        engine.learn(spec)
        assert engine.load("changing").weights.sha256 == spec.sha256
        results.append(_upscale(engine, "changing", photo(40, 30)))
    engine.close()
    assert (results[0] != results[1]).any()
