"""What a caller may choose beyond the model: backend, denoise strength, alpha, models of the folder."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from upscaled import Client, FailedPreconditionError, InvalidRequestError, NotFoundError
from upscaled_server.engine.shims import import_spandrel

FAST, GENERAL = "real-esrgan-animevideo-v3", "real-esrgan-x4-v3"


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address, timeout=120, retries=0) as client:
        yield client


def _picture(mode: str = "RGB", side: int = 48) -> bytes:
    y, x = np.mgrid[0:side, 0:side]
    planes = [(x * 5) % 256, (y * 5) % 256, (x + y) % 256, 40 + (x * y) % 200]
    pixels = np.stack(planes[: len(mode)], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "PNG")
    return file.getvalue()


def _pixels(data: bytes | None) -> NDArray[Any]:
    assert data is not None
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_each_backend_makes_the_same_image_and_says_so(client: Client) -> None:
    results = {}
    for backend in ("ncnn", "torch"):
        assert backend in client.server_info().backends
        result = client.upscale(_picture(), model=FAST, backend=backend)
        assert result.provenance is not None
        assert result.provenance.backend == backend
        results[backend] = _pixels(result.data)
    assert np.abs(results["ncnn"] - results["torch"]).max() <= 1


def test_the_reference_is_used_or_its_extra_is_named(client: Client) -> None:
    if "realesrgan" in client.server_info().backends:
        result = client.upscale(_picture(), model=FAST, backend="realesrgan")
        assert result.provenance is not None
        assert result.provenance.backend == "realesrgan"
        return
    with pytest.raises(FailedPreconditionError, match=r"upscaled\[realesrgan\]"):
        client.upscale(_picture(), model=FAST, backend="realesrgan")


def test_denoise_strength_goes_from_one_model_to_the_other(client: Client, shared_models: Path) -> None:
    assert shared_models.is_dir()
    plain, weak = (
        _pixels(client.upscale(_picture(), model=name).data) for name in (GENERAL, f"{GENERAL}-wdn")
    )
    ends = {}
    for strength in (0.0, 0.5, 1.0):
        result = client.upscale(_picture(), model=GENERAL, denoise_strength=strength)
        ends[strength] = _pixels(result.data)
        assert result.provenance is not None
        assert result.provenance.weights_source.startswith("interpolated") == (strength < 1)
        assert result.settings.denoise_strength == pytest.approx(strength)
    assert np.array_equal(ends[1.0], plain)
    assert np.abs(ends[0.0] - weak).max() <= 1
    assert np.abs(ends[0.5] - plain).max() > 1
    assert {model.name for model in client.models.list() if model.denoise} == {GENERAL}


def test_many_denoise_strengths_in_a_row_all_work(client: Client, shared_models: Path) -> None:
    assert shared_models.is_dir()
    for hundredths in (10, 20, 30, 40, 50, 60, 10):
        result = client.upscale(_picture(side=8), model=GENERAL, denoise_strength=hundredths / 100)
        assert result.width == 32


def test_denoise_strength_is_for_the_general_model_only(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="denoise_strength"):
        client.upscale(_picture(), model=FAST, denoise_strength=0.5)


@pytest.mark.parametrize("options", [{}, {"scale": 3}, {"scale": 9, "passes": 2}])
def test_alpha_through_the_network_is_the_grey_image_it_would_be(
    client: Client, options: dict[str, Any]
) -> None:
    file = _picture("RGBA")
    alpha = Image.open(io.BytesIO(file)).getchannel("A")
    grey = io.BytesIO()
    alpha.save(grey, "PNG")
    joined = _pixels(client.upscale(file, model=FAST, alpha="network", **options).data)
    alone = _pixels(client.upscale(grey.getvalue(), model=FAST, **options).data)
    assert np.array_equal(joined[..., 3], alone)
    opaque = io.BytesIO()
    Image.open(io.BytesIO(file)).convert("RGB").save(opaque, "PNG")
    colour = _pixels(client.upscale(opaque.getvalue(), model=FAST, **options).data)
    assert np.array_equal(joined[..., :3], colour)


def test_a_model_put_into_the_folder_appears_and_upscales(tmp_path: Path) -> None:
    import_spandrel()
    from spandrel.architectures.SPAN import SPAN

    folder = tmp_path / "models"
    folder.mkdir()
    environ = {"UPSCALED_MODEL_DIR": str(folder), "UPSCALED_MODEL_CACHE": str(tmp_path / "cache")}
    with running_server(**environ) as server, Client(server.address, timeout=120, retries=0) as client:
        with pytest.raises(NotFoundError):
            client.upscale(_picture(), model="own-span")
        torch.manual_seed(1)
        network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2)
        torch.save(network.state_dict(), tmp_path / "own-span.part")
        (tmp_path / "own-span.part").rename(folder / "own-span.pth")
        deadline = time.monotonic() + 120
        while not any(model.name == "own-span" for model in client.models.list()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        model = client.models.get("own-span")
        assert (model.scale, model.available, model.official_file) == (2, True, None)
        result = client.upscale(_picture(side=70), model="own-span")
        assert (result.width, result.height) == (140, 140)
        assert result.provenance is not None
        assert result.provenance.backend == "torch"
        assert client.models.get("own-span").loaded
        with pytest.raises(InvalidRequestError, match=r"options\.backend"):
            client.upscale(_picture(), model="own-span", backend="ncnn")
