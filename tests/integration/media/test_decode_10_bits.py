"""HEIC of 10 and 12 bits arrives with all of them; AVIF of more than 8 says that it lost some."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MODES = {1: "I;16", 3: "RGB;16", 4: "RGBA;16"}


def values(planes: int, bits: int) -> NDArray[np.uint16]:
    found = np.random.default_rng(41).integers(0, 2**bits, (46, 62, planes), np.uint16)
    if planes == 4:
        found[:, :, 3] |= 2 ** (bits - 2)  # invisible pixels would not keep their colour
    return found


def heic(pixels: NDArray[np.uint16], bits: int) -> bytes:
    """Without loss: the bits of each value are the upper ones of 16."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    height, width, planes = pixels.shape
    made = pillow_heif.from_bytes(
        mode=_MODES[planes], size=(width, height), data=(pixels << (16 - bits)).tobytes()
    )
    buffer = io.BytesIO()
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        made.save(buffer, quality=-1, matrix_coefficients=0, chroma=444)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("planes", [1, 3, 4])
async def test_heic_keeps_every_bit_and_reaches_from_black_to_white(
    decode: Callable[..., Any], planes: int, bits: int
) -> None:
    expected = values(planes, bits)
    info, rows = await decode(heic(expected, bits))
    assert (info.format, info.bits, info.planes) == ("HEIF", 16, planes)
    assert info.remarks == ()
    assert np.array_equal(rows >> (16 - bits), expected)
    assert np.abs(rows - expected * (65535 / (2**bits - 1))).max() <= 1
    assert (rows.min(), rows.max()) == (0, 65535)


async def test_heic_of_eight_bits_stays_so(decode: Callable[..., Any]) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.new("RGB", (62, 46), (10, 20, 30)).save(buffer, "HEIF")
    info, _ = await decode(buffer.getvalue())
    assert (info.bits, info.remarks) == (8, ())


@pytest.mark.parametrize(
    "name",
    [
        "AOMediaCodec-libavif__tests-data-colors_wcg_hdr_rec2020.avif",
        "AOMediaCodec-libavif__android_jni-avifandroidjni-src-androidTest-assets-avif-fox.profile2.12bpc.yuv420.avif",
    ],
)
async def test_avif_of_more_bits_says_that_it_lost_some(
    decode: Callable[..., Any], shared: Path, name: str
) -> None:
    info, _ = await decode((shared / "corpus" / "odd" / name).read_bytes())
    assert info.bits == 8
    assert info.remarks[0] == "the values of this AVIF have more than 8 bits and are decoded with 8"


async def test_avif_of_eight_bits_has_nothing_to_say(decode: Callable[..., Any]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (62, 46), (10, 20, 30)).save(buffer, "AVIF")
    info, _ = await decode(buffer.getvalue())
    assert (info.bits, info.remarks) == (8, ())
