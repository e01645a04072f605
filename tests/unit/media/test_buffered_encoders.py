"""AVIF and progressive JPEG: formats that need the whole image before their first byte."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.unit.media.test_metadata_fitting import camera_exif

from upscaled_server.media.info import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("planes", "mode"), [(1, "L"), (2, "RGBA"), (3, "RGB"), (4, "RGBA")])
def test_avif_resembles_the_image(encode: Callable[..., bytes], planes: int, mode: str, bits: int) -> None:
    y, x = np.mgrid[:90, :120]
    image = np.stack([(x + y * plane) % 200 // 2 + 50 for plane in range(planes)], axis=2).astype(np.uint8)
    given = image if bits == 8 else image.astype(np.uint16) * 257
    found = Image.open(io.BytesIO(encode("AVIF", given, quality=95, subsampling="4:4:4")))
    assert (found.format, found.mode, found.size) == ("AVIF", mode, (120, 90))
    colours = np.asarray(found).reshape(90, 120, -1)
    expected = image if planes != 2 else image[:, :, [0, 0, 0, 1]]
    assert np.abs(colours.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("planes", [1, 3])
def test_progressive_jpeg_has_the_pixels_of_the_sequential_one(
    encode: Callable[..., bytes], picture: Callable[..., Any], planes: int
) -> None:
    image = picture(150, 100, planes)
    sequential = Image.open(io.BytesIO(encode("JPEG", image)))
    progressive = Image.open(io.BytesIO(encode("JPEG", image, progressive=True)))
    assert progressive.info.get("progressive")
    assert np.array_equal(np.asarray(progressive), np.asarray(sequential))


def test_a_transparent_image_lies_over_white_in_a_progressive_jpeg(encode: Callable[..., bytes]) -> None:
    image = np.zeros((20, 20, 4), np.uint8)
    data = encode("JPEG", image, progressive=True, flatten_alpha=True)
    assert np.asarray(Image.open(io.BytesIO(data))).min() > 250


@pytest.mark.parametrize(
    "options", [{"format": "AVIF"}, {"format": "JPEG", "progressive": True}, {"format": "JPEG"}]
)
def test_metadata_is_carried(
    encode: Callable[..., bytes], picture: Callable[..., Any], options: dict[str, Any]
) -> None:
    metadata = Metadata(icc=SRGB, exif=camera_exif("<"), xmp=b"<x/>", iptc=b"\x1c\x02\x05\0\x02Hi")
    format_ = options["format"]
    rest = {name: value for name, value in options.items() if name != "format"}
    found = Image.open(io.BytesIO(encode(format_, picture(64, 48), metadata=metadata, **rest)))
    assert found.info["icc_profile"] == SRGB
    assert found.info["xmp"] == b"<x/>"
    exif = found.getexif()
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("Camera", 1)
    assert exif.get_ifd(0x8769)[0xA002] == 64
    if format_ == "JPEG":
        assert found.info["photoshop"][0x0404] == metadata.iptc
