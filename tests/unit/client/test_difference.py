"""Two PNG files, how far they are apart, and the picture of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from upscaled import UpscaledError
from upscaled.cli.difference import read_png, write_difference
from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata

KINDS = [(channels, bits) for channels in (1, 2, 3, 4) for bits in (8, 16)]


def write_png(path: Path, pixels: NDArray[np.generic]) -> Path:
    """As the server writes them."""
    height, width, planes = pixels.shape
    with ThreadPoolExecutor(1) as executor:
        encoder = open_encoder(
            "PNG",
            width=width,
            height=height,
            channels=1 if planes < 3 else 3,
            has_alpha=planes in (2, 4),
            bits=pixels.dtype.itemsize * 8,
            options=EncodeOptions(),
            metadata=Metadata(),
            executor=executor,
        )
        head = encoder.begin()
        pieces = [*encoder.write(pixels), *encoder.finish()]
        path.write_bytes(head + b"".join(piece.result() for piece in pieces))
    return path


def noise(channels: int, bits: int) -> NDArray[np.generic]:
    values = np.random.default_rng(channels).integers(100, 200, (300, 40, channels))
    return (values * (257 if bits == 16 else 1) + (bits == 16)).astype(np.uint16 if bits == 16 else np.uint8)


@pytest.mark.parametrize(("channels", "bits"), KINDS)
def test_every_kind_of_png_is_read_whole(tmp_path: Path, channels: int, bits: int) -> None:
    pixels = noise(channels, bits)
    read = read_png(write_png(tmp_path / "a.png", pixels))
    assert read.dtype == pixels.dtype
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize(("channels", "bits"), KINDS)
def test_one_value_that_differs_is_counted_and_bright(tmp_path: Path, channels: int, bits: int) -> None:
    pixels = noise(channels, bits)
    other = pixels.copy()
    other[299, 7, channels - 1] += 3
    first, second = write_png(tmp_path / "a.png", pixels), write_png(tmp_path / "b.png", other)
    found = write_difference(first, second, tmp_path / "d.png")
    full = 2**bits - 1
    assert (found.width, found.height, found.channels, found.full_scale) == (40, 300, channels, full)
    assert found.largest == 3
    assert found.share == pytest.approx(1 / pixels.size)
    assert found.psnr == pytest.approx(10 * np.log10(full**2 / (9 / pixels.size)))
    assert found.amplified == pytest.approx(full / 3)
    shown = np.asarray(Image.open(tmp_path / "d.png"))
    assert shown.shape[:2] == (300, 40)
    assert shown.dtype == np.uint8
    assert shown[299, 7].max() == 255
    shown = shown.copy()
    shown[299, 7] = 0
    assert not shown.any()


def test_nothing_that_differs_is_black_and_has_no_psnr(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", noise(3, 8))
    found = write_difference(path, path, tmp_path / "d.png")
    assert (found.largest, found.share, found.psnr, found.amplified) == (0, 0.0, None, 1.0)
    assert not np.asarray(Image.open(tmp_path / "d.png")).any()


def test_a_few_large_differences_do_not_hide_many_small_ones(tmp_path: Path) -> None:
    pixels = noise(1, 8)
    other = pixels + np.uint8(1)
    other[0, 0, 0] += 50
    first, second = write_png(tmp_path / "a.png", pixels), write_png(tmp_path / "b.png", other)
    found = write_difference(first, second, tmp_path / "d.png")
    assert found.largest == 51
    assert (np.asarray(Image.open(tmp_path / "d.png")) == 255).all()


def test_results_of_different_kinds_are_refused_with_both(tmp_path: Path) -> None:
    first = write_png(tmp_path / "a.png", noise(3, 8))
    second = write_png(tmp_path / "b.png", noise(3, 16))
    with pytest.raises(UpscaledError, match=r"40x300, 3 channels of 8 bits.*of 16 bits"):
        write_difference(first, second, tmp_path / "d.png")
    assert not (tmp_path / "d.png").exists()
