"""WebP files, read back by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from upscaled_server.media.info import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_lossless_comes_back_as_it_was_even_under_transparent_pixels(
    encode: Any, picture: Any, planes: int
) -> None:
    image = picture(123, 45, planes)
    if planes in (2, 4):
        image[:20, :, -1] = 0
    decoded = Image.open(io.BytesIO(encode("WEBP", image, lossless=True, cut=7)))
    colour = np.repeat(image[:, :, :1], 3, axis=2) if planes < 3 else image[:, :, :3]
    assert np.array_equal(np.asarray(decoded.convert("RGB")), colour)
    assert (decoded.mode == "RGBA") == (planes in (2, 4))
    if planes in (2, 4):
        assert np.array_equal(np.asarray(decoded)[:, :, 3], image[:, :, -1])


def test_lossy_is_near_and_smaller(encode: Any, picture: Any) -> None:
    image = picture(200, 100)
    small, large = encode("WEBP", image, quality=30), encode("WEBP", image, quality=95)
    assert len(small) < len(large)
    difference = np.asarray(Image.open(io.BytesIO(large)).convert("RGB")).astype(int) - image
    assert np.abs(difference).mean() < 25


def test_one_pixel_is_enough(encode: Any, picture: Any) -> None:
    assert Image.open(io.BytesIO(encode("WEBP", picture(1, 1)))).size == (1, 1)


def test_metadata_is_written_upright(encode: Any, picture: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    metadata = Metadata(icc=SRGB, exif=exif.tobytes()[6:], xmp=b"<x/>")
    image = Image.open(io.BytesIO(encode("WEBP", picture(9, 9), metadata=metadata)))
    assert image.info["icc_profile"] == SRGB
    assert image.getexif()[0x0112] == 1
    assert image.info["xmp"] == b"<x/>"
