"""Parity with upstream: what comes out of the server equals `RealESRGANer(tile=0, pre_pad=0, half=False)`.

The whole way is compared, from a file to a file: colour, grey, alpha in upstream's alpha mode, and 16 bits,
on every backend. The promise: each 8-bit value is within 1, and the share that differs is below 5e-4.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.e2e.conftest import running_server

from upscaled import Client
from upscaled_server.engine.backends.realesrgan_backend import make_upsampler
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.weights.blend import blend
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("realesrgan") is None,
    reason="needs the reference engine: make parity, or pip install 'upscaled[realesrgan]'",
)

VIDEO, GENERAL, ANIME, PLUS = (
    "real-esrgan-animevideo-v3",
    "real-esrgan-x4-v3",
    "real-esrgan-x4-plus-anime",
    "real-esrgan-x4-plus",
)
BACKENDS = ("ncnn", "torch", "realesrgan")
SHARE = 5e-4

# What differs in 16 bits is rounding of the arithmetic, a few millionths of the range.
LARGEST_16 = 24

Pixels = NDArray[Any]
Upstream = Callable[..., Pixels]


@pytest.fixture(scope="module")
def client(shared_models: Path) -> Iterator[Client]:
    with running_server(UPSCALED_MODEL_DIR=str(shared_models)) as server, Client(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def upstream(shared_models: Path) -> Upstream:
    """`RealESRGANer.enhance` on pixels as OpenCV reads them, by model and denoise strength."""
    upsamplers: dict[tuple[str, int | None], Any] = {}

    def enhance(pixels: Pixels, model: str, denoise: int | None = None) -> Pixels:
        if (model, denoise) not in upsamplers:
            catalogue = Catalogue()
            spec = catalogue.resolve(model)
            store = WeightStore(StoreOptions(Path("/nonexistent"), shared_models, download=False))
            weights = store.load(spec)
            if denoise is not None:
                weights = blend(weights, store.load(catalogue.resolve(spec.counterpart)), denoise)
            upsamplers[model, denoise] = make_upsampler(spec.architecture, weights.state, tile=0, pre_pad=0)
        with contextlib.redirect_stdout(io.StringIO()):
            result: Pixels = upsamplers[model, denoise].enhance(pixels)[0]
        return result

    return enhance


def _crop(path: Path, left: int, top: int, width: int, height: int) -> Pixels:
    """A part of an image as OpenCV reads it: grey (h, w), BGR or BGRA, uint8 or uint16."""
    import cv2

    pixels: Pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _through_server(client: Client, pixels: Pixels, **options: Any) -> Pixels:
    import cv2

    file = cv2.imencode(".png", pixels)[1].tobytes()
    result = client.upscale(file, **options)
    assert result.provenance is not None
    assert result.provenance.backend == options["backend"]
    decoded: Pixels = cv2.imdecode(np.frombuffer(result.data, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded


def _assert_parity(ours: Pixels, theirs: Pixels) -> None:
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if ours.dtype == np.uint16:
        assert np.abs(ours.astype(int) - theirs).max() <= LARGEST_16
        ours, theirs = ((each.astype(np.uint32) * 255 + 32895) >> 16 for each in (ours, theirs))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) / difference.size < SHARE


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "box", "model"),
    [
        ("00003.png", (200, 60, 140, 120), VIDEO),
        ("0030.jpg", (40, 50, 131, 97), GENERAL),
        ("OST_009.png", (60, 100, 90, 81), ANIME),
        ("ADE_val_00000114.jpg", (100, 90, 48, 40), PLUS),
    ],
)
def test_colour_is_as_upstream_makes_it(
    client: Client,
    upstream: Upstream,
    shared_images: Path,
    name: str,
    box: tuple[int, int, int, int],
    model: str,
    backend: str,
) -> None:
    pixels = _crop(shared_images / name, *box)
    ours = _through_server(client, pixels, model=model, backend=backend)
    _assert_parity(ours, upstream(pixels, model))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("box", "model"), [((90, 30, 140, 120), VIDEO), ((90, 30, 121, 97), GENERAL), ((90, 30, 60, 53), ANIME)]
)
def test_sixteen_bit_colour_is_as_upstream_makes_it(
    client: Client,
    upstream: Upstream,
    shared_images: Path,
    box: tuple[int, int, int, int],
    model: str,
    backend: str,
) -> None:
    pixels = _crop(shared_images / "tree_alpha_16bit.png", *box)[..., :3]
    assert (pixels.dtype, pixels.shape[2]) == (np.uint16, 3)
    ours = _through_server(client, pixels, model=model, backend=backend)
    _assert_parity(ours, upstream(pixels, model))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("name", "model"), [("00017_gray.png", VIDEO), ("wolf_gray.jpg", GENERAL)])
def test_grey_is_as_upstream_makes_it(
    client: Client, upstream: Upstream, shared_images: Path, name: str, model: str, bits: int, backend: str
) -> None:
    pixels = _crop(shared_images / name, 60, 50, 150, 140)
    if bits == 16:
        # Sixteen bits that matter: the means of neighbours.
        wide = pixels.astype(np.uint16) * 257
        pixels = wide[:-1, :-1] // 2 + wide[1:, 1:] // 2
    assert pixels.ndim == 2
    ours = _through_server(client, pixels, model=model, backend=backend)
    _assert_parity(ours, upstream(pixels, model))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "box", "bits"),
    [
        ("children-alpha.png", (180, 60, 150, 130), 8),
        ("tree_alpha_16bit.png", (90, 30, 140, 120), 16),
    ],
)
def test_alpha_through_the_network_is_as_upstream_makes_it(
    client: Client,
    upstream: Upstream,
    shared_images: Path,
    name: str,
    box: tuple[int, int, int, int],
    bits: int,
    backend: str,
) -> None:
    pixels = _crop(shared_images / name, *box)
    assert pixels.shape[2] == 4
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert pixels[..., 3].std() > 0
    # Colour under what is fully transparent is replaced before the network, which upstream does not do.
    pixels[..., 3] = np.maximum(pixels[..., 3], np.iinfo(pixels.dtype).max // 16)
    ours = _through_server(client, pixels, model=VIDEO, backend=backend, alpha="network")
    _assert_parity(ours, upstream(pixels, VIDEO))


@pytest.mark.parametrize("strength", [0.0, 0.37])
def test_denoise_strength_mixes_as_upstream_does(
    client: Client, upstream: Upstream, shared_images: Path, strength: float
) -> None:
    pixels = _crop(shared_images / "0014.jpg", 20, 30, 100, 90)
    ours = _through_server(client, pixels, model=GENERAL, backend="ncnn", denoise_strength=strength)
    _assert_parity(ours, upstream(pixels, GENERAL, round(strength * 100)))


def test_the_reference_is_listed_behind_the_default(client: Client) -> None:
    backends = client.server_info().backends
    assert backends[0] == "ncnn"
    assert set(backends) == set(BACKENDS)
