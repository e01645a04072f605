"""Pictures of Pillow and NumPy go out as PNG files that hold the same pixels."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("numpy", reason="needs the extra images")
pytest.importorskip("PIL", reason="needs the extra images")

import numpy as np
from PIL import Image

from upscaled import SourceError
from upscaled._pictures import encode_picture


def decoded(png: bytes | None) -> Image.Image:
    assert png is not None
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize(
    ("shape", "kind", "mode"),
    [
        ((5, 7), "uint8", "L"),
        ((5, 7, 1), "uint8", "L"),
        ((5, 7, 2), "uint8", "LA"),
        ((5, 7, 3), "uint8", "RGB"),
        ((5, 7, 4), "uint8", "RGBA"),
        ((5, 7), "uint16", "I;16"),
    ],
)
def test_an_array_keeps_every_value(shape: tuple[int, ...], kind: str, mode: str) -> None:
    high = np.iinfo(kind).max
    array = np.random.default_rng(1).integers(0, high, shape, dtype=kind, endpoint=True)
    image = decoded(encode_picture(array))
    assert image.mode == mode
    assert np.array_equal(np.asarray(image), array.reshape(np.asarray(image).shape))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((5,), "uint8"), ((5, 7, 5), "uint8"), ((5, 7, 3), "float32"), ((5, 7, 3), "uint16"), ((0, 7), "uint8")],
)
def test_an_array_that_is_no_picture_is_refused_with_its_shape(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(SourceError, match=rf"{kind}"):
        encode_picture(np.zeros(shape, kind))


def test_an_image_keeps_pixels_profile_and_exif() -> None:
    image = Image.new("RGB", (7, 5), (1, 2, 3))
    image.info["icc_profile"] = b"a profile"
    image.getexif()[0x0112] = 6
    sent = decoded(encode_picture(image))
    assert sent.getpixel((3, 3)) == (1, 2, 3)
    assert sent.info["icc_profile"] == b"a profile"
    assert sent.getexif()[0x0112] == 6


def test_an_image_that_a_png_cannot_hold_is_refused() -> None:
    with pytest.raises(SourceError, match="'CMYK' cannot be sent; convert it"):
        encode_picture(Image.new("CMYK", (7, 5)))


def test_anything_else_is_none() -> None:
    assert encode_picture(object()) is None
    assert encode_picture([[1, 2], [3, 4]]) is None
