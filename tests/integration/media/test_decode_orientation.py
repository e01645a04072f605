"""EXIF orientation, in every format that carries it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

pytestmark = pytest.mark.asyncio(loop_scope="module")


def turned(format_: str, orientation: int, size: tuple[int, int] = (47, 31)) -> bytes:
    y, x = np.mgrid[: size[1], : size[0]]
    image = Image.fromarray(np.stack([x * 5, y * 7, x + y], axis=2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {}
    buffer = io.BytesIO()
    image.save(buffer, format_, exif=exif, **options)
    return buffer.getvalue()


def upright(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
async def test_the_picture_stands_upright_and_the_info_says_how_it_lay(
    decode: Callable[..., Any], format_: str, orientation: int
) -> None:
    data = turned(format_, orientation)
    info, rows = await decode(data, cut=5)
    assert np.array_equal(rows, upright(data))
    assert (info.width, info.height) == ((31, 47) if orientation >= 5 else (47, 31))
    assert info.orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_strips_of_a_large_image_join_without_a_seam(
    decode: Callable[..., Any], orientation: int
) -> None:
    data = turned("PNG", orientation, (1501, 1103))
    _, rows = await decode(data, cut=100)
    assert np.array_equal(rows, upright(data))


async def test_a_png_whose_exif_comes_behind_the_pixels_is_turned_too(decode: Callable[..., Any]) -> None:
    data = turned("PNG", 6)
    at = data.index(b"eXIf") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    exif, rest = data[at : at + length], data[:at] + data[at + length :]
    end = rest.index(b"IEND") - 4
    info, rows = await decode(rest[:end] + exif + rest[end:])
    assert (info.orientation, rows.shape) == (6, (47, 31, 3))
    assert info.metadata.exif is not None


@pytest.mark.parametrize("orientation", [0, 9, 65535])
async def test_an_orientation_that_does_not_exist_is_upright(
    decode: Callable[..., Any], orientation: int
) -> None:
    info, rows = await decode(turned("JPEG", orientation))
    assert (info.orientation, rows.shape) == (1, (31, 47, 3))


async def test_exif_that_is_damaged_does_not_cost_the_picture(decode: Callable[..., Any]) -> None:
    data = turned("JPEG", 6)
    at = data.index(b"Exif\0\0") + 6
    for damaged in (data[:at] + b"XX" + data[at + 2 :], data[: at + 8] + b"\xff" * 6 + data[at + 14 :]):
        info, rows = await decode(damaged)
        assert info.orientation == 1
        assert rows.shape == (31, 47, 3)
