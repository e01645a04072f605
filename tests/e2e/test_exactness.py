"""The promise of exactness on real images: through server, cuts and PNG, within 1 of whole-image torch
fp32."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.e2e.conftest import RunningServer
from upscaled import Client
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.networks.build import build_network
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

# The share of 8-bit values that may differ, by one, on ncnn.
SHARE = 5e-4


def whole_image_torch(model: str, pixels: NDArray[np.uint8], folder: Path | None) -> NDArray[np.uint8]:
    """What the network makes of all pixels at once, in torch fp32; (height, width, 3) RGB."""
    import torch

    spec = Catalogue().resolve(model)
    options = StoreOptions(cache=Path("/nonexistent"), folder=folder, download=False)
    network = build_network(spec.architecture, WeightStore(options).load(spec).state)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        result = network(tensor)[0].permute(1, 2, 0)
    rounded: NDArray[np.uint8] = (result.clamp(0, 1) * 255).round().byte().numpy()
    return rounded


@pytest.mark.parametrize(
    ("name", "model", "box"),
    [
        ("OST_009.png", "real-esrgan-animevideo-v3", None),
        ("OST_009.png", "real-esrgan-x4-v3", (100, 200, 400, 440)),
        ("OST_009.png", "real-esrgan-x4-plus-anime", (60, 100, 188, 220)),
        ("OST_009.png", "real-esrgan-x4-plus", (60, 100, 124, 156)),
        ("0014.jpg", "real-esrgan-animevideo-v3", None),
    ],
)
def test_a_real_image_through_the_server_is_within_one_of_the_whole_image_in_torch(
    server: RunningServer,
    shared_images: Path,
    shared_models: Path,
    name: str,
    model: str,
    box: tuple[int, int, int, int] | None,
) -> None:
    source = Image.open(shared_images / name).convert("RGB")
    if box is not None:
        source = source.crop(box)
    file = io.BytesIO()
    source.save(file, "PNG")
    with Client(server.address, timeout=170) as client:
        result = client.upscale(file.getvalue(), model=model, scale=4)
    ours = np.asarray(Image.open(io.BytesIO(result.data)))
    wanted = whole_image_torch(model, np.asarray(source), shared_models)
    assert ours.shape == wanted.shape
    difference = np.abs(ours.astype(np.int16) - wanted)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) / difference.size < SHARE
