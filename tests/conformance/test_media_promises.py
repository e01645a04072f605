"""What must hold for every image: no fringe, no shift of colours, nothing smuggled through."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import REPO
from tests.e2e.conftest import running_server
from tests.integration.media.test_decode_colour import adobe_rgb, adobe_to_srgb, grey_gamma

from upscaled import Client, Plan, Tile, Tiles, UpscaledError
from upscaled.mosaic import Mosaic

FAST = "real-esrgan-animevideo-v3"
GENERAL = "real-esrgan-x4-v3"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    models = REPO.parent / "shared" / "models"
    extra = {"UPSCALED_MODEL_DIR": str(models)} if models.is_dir() else {}
    with running_server(**extra) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=300) as client:
        yield client


def png(pixels: NDArray[np.uint8], **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def opened(data: bytes) -> NDArray[np.float64]:
    """(height, width, RGB and alpha), 0 to 255; of 16 bits the upper eight."""
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGBA"), float)


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
def test_what_lies_under_transparent_pixels_never_shows(
    client: Client, shared_images: Path, hidden: tuple[int, int, int]
) -> None:
    picture = np.asarray(Image.open(shared_images / "children-alpha.png"))[90:190, 40:160].copy()
    reference = client.upscale(png(picture), model=FAST)
    changed = picture.copy()
    changed[changed[..., 3] == 0, :3] = hidden
    assert (changed != picture).any()
    found = opened(client.upscale(png(changed), model=FAST).data)
    expected = opened(reference.data)
    visible = expected[..., 3] > 0
    assert np.abs(found[visible] - expected[visible]).max() <= 1


@pytest.mark.parametrize("name", ["children-alpha.png", "tree_alpha_16bit.png"])
def test_edges_are_as_light_as_they_were_on_any_background(
    client: Client, shared_images: Path, name: str
) -> None:
    before = opened((shared_images / name).read_bytes())
    after = opened(client.upscale(shared_images / name, model=GENERAL, keep_colors=True).data)
    height, width = before.shape[:2]
    edge = (before[..., 3] > 5) & (before[..., 3] < 250)
    errors = []
    for background in (0, 128, 255):
        laid = [
            image[..., :3] * image[..., 3:] / 255 + background * (1 - image[..., 3:] / 255)
            for image in (before, after)
        ]
        small = laid[1].reshape(height, 4, width, 4, 3).mean((1, 3))
        errors.append((small - laid[0])[edge].mean())
    # A dark fringe shows on white, a light one on black: the error would depend on the background.
    assert max(errors) - min(errors) < 2.5, errors
    assert np.abs(errors).max() < 5, errors


def test_an_answer_is_in_the_space_of_its_input_or_in_srgb(client: Client) -> None:
    y, x = np.mgrid[:40, :60]
    pixels = np.stack([100 + x, 110 + y, 150 - x // 2], axis=2).astype(np.uint8)
    source = png(pixels, icc_profile=adobe_rgb())
    kept = client.upscale(source, model=FAST, keep_colors=True)
    assert Image.open(io.BytesIO(kept.data)).info["icc_profile"] == adobe_rgb()
    mean = opened(kept.data)[..., :3].mean((0, 1))
    assert np.abs(mean - pixels.mean((0, 1))).max() < 2
    converted = client.upscale(source, model=FAST, color_space="srgb", keep_colors=True)
    assert "icc_profile" not in Image.open(io.BytesIO(converted.data)).info
    expected = adobe_to_srgb(pixels / 255).mean((0, 1)) * 255
    assert np.abs(opened(converted.data)[..., :3].mean((0, 1)) - expected).max() < 1


@pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "webp"])
def test_grey_with_a_profile_of_its_own(client: Client, format: str) -> None:
    ramp = np.tile(np.arange(40, 104, dtype=np.uint8), (40, 1))
    source = png(ramp, icc_profile=grey_gamma(1.4))
    result = client.upscale(source, model=FAST, format=format, keep_colors=True)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(result.data))
    if format == "webp":  # which makes RGB of grey
        assert "icc_profile" not in image.info
        assert any("sRGB" in warning for warning in result.warnings)
    else:
        assert image.info["icc_profile"] == grey_gamma(1.4)
        assert abs(opened(result.data)[..., 0].mean() - ramp.mean()) < 2


def test_an_unusable_profile_is_in_the_warnings(client: Client) -> None:
    result = client.upscale(png(np.zeros((8, 8, 3), np.uint8), icc_profile=b"junk"), model=FAST)
    assert any("profile was ignored" in warning for warning in result.warnings)
    assert "icc_profile" not in Image.open(io.BytesIO(result.data)).info


def test_nothing_is_smuggled_through(client: Client, shared: Path) -> None:
    folder = shared / "corpus"
    with (folder / "manifest.tsv").open() as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    worked = 0
    for row in rows:
        data = (folder / row["class"] / row["file"]).read_bytes()
        if b"CORPUS-MARKER-41" not in data:
            continue
        for format in ("png", "jpeg", "webp", "tiff", "avif"):
            try:
                result = client.upscale(data, model=FAST, format=format)  # type: ignore[arg-type]
            except UpscaledError:
                continue
            worked += 1
            assert b"CORPUS-MARKER-41" not in result.data, (row["file"], format)
    assert worked >= 10


@pytest.mark.parametrize("encoding", ["png", "webp", "jpeg", "raw_rgb"])
def test_a_mosaic_of_the_tiles_is_the_picture(client: Client, sample: Path, encoding: str) -> None:
    tiles: list[Tile] = []
    mosaic = None
    for event in client.upscale_stream(sample, model=FAST, tiles=Tiles(200, encoding)):  # type: ignore[arg-type]
        if isinstance(event, Plan):
            mosaic = Mosaic.of(event)
        elif isinstance(event, Tile):
            tiles.append(event)
    assert mosaic is not None
    for tile in [*tiles[::-1], *tiles]:
        mosaic.add(tile)
    assert mosaic.complete
    expected = opened(client.upscale(sample, model=FAST).data)[..., :3]
    difference = np.abs(np.asarray(mosaic.image(), float) - expected)
    assert difference.mean() < {"png": 1e-9, "raw_rgb": 1e-9}.get(encoding, 6)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_command_keeps_a_preview(address: str, sample: Path, tmp_path: Path, suffix: str) -> None:
    output, preview = tmp_path / "out.png", tmp_path / f"now{suffix}"
    command = [
        sys.executable,
        "-m",
        "upscaled",
        "upscale",
        sample,
        "-o",
        output,
        "-m",
        FAST,
        "--preview",
        preview,
    ]
    done = subprocess.run(
        [*command, "--model", FAST],
        env={**os.environ, "UPSCALED_SERVER": address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, shown = Image.open(output), Image.open(preview)
    assert (result.size, shown.size) == ((1280, 960), (1280, 960))
    difference = np.asarray(result.convert("RGB"), float) - np.asarray(shown.convert("RGB"), float)
    assert np.abs(difference).mean() < 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, preview.name])


def test_a_preview_of_another_kind_is_wrong_usage(sample: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "upscaled", "upscale", sample, "--preview", tmp_path / "now.gif"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--preview" in done.stderr


@pytest.fixture(scope="module")
def sample() -> Path:
    return REPO / "docs" / "sample.png"
