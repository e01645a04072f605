"""Colour that a file describes in numbers: gAMA and cHRM of PNG, CICP of PNG and AVIF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.integration.media.test_decode_colour import SRGB, adobe_to_srgb, encode_srgb, picture

from upscaled_server.media.codec import CodecHost

pytestmark = pytest.mark.asyncio(loop_scope="module")

# White point, red, green, blue, times 100000.
SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_POINTS = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(points: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *points)


def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, 0, 1))


def png(pixels: NDArray[np.uint8], *chunks: tuple[bytes, bytes], **options: Any) -> bytes:
    """With chunks behind the header."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return buffer.getvalue()[:33] + extra + buffer.getvalue()[33:]


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(45455), chrm(SRGB_POINTS)],
        [gama(45455)],
        [gama(44444)],
        [chrm(SRGB_POINTS)],
        [gama(100000), (b"sRGB", b"\0")],
        [cicp(1, 13)],
        [cicp(1, 1)],
        [cicp(2, 2)],
    ],
)
async def test_what_is_srgb_in_other_words_stays_as_it_is(
    decode: Callable[..., Any], chunks: list[tuple[bytes, bytes]]
) -> None:
    info, rows = await decode(png(picture(), *chunks))
    assert np.array_equal(rows, picture())
    assert (info.metadata.icc, info.is_converted, info.remarks) == (None, False, ())


@pytest.mark.parametrize("chunk", [gama(100000), cicp(1, 8)])
async def test_linear_light_becomes_srgb(decode: Callable[..., Any], chunk: tuple[bytes, bytes]) -> None:
    info, rows = await decode(png(picture(), chunk))
    expected = encode_srgb(picture() / 255) * 255
    assert np.abs(rows - expected).max() <= 1
    assert info.is_converted


async def test_linear_grey_becomes_srgb(decode: Callable[..., Any]) -> None:
    grey = picture()[..., 0]
    info, rows = await decode(png(grey, gama(100000)))
    assert info.channels == 1
    assert np.abs(rows[..., 0] - encode_srgb(grey / 255) * 255).max() <= 1


async def test_wide_primaries_become_srgb_and_find_their_way_back(
    decode: Callable[..., Any], host: CodecHost
) -> None:
    pixels = picture()
    # Between 1 / 2.2 and 1 / 1.8, so that the curve is not taken for that of sRGB.
    info, rows = await decode(png(pixels, gama(50000), chrm(ADOBE_POINTS)))
    values = (pixels / 255) ** (2 / 2.19921875)
    assert np.abs(rows - adobe_to_srgb(values) * 255).max() <= 2
    shape = {"width": rows.shape[1], "height": rows.shape[0], "channels": 3, "has_alpha": False, "bits": 8}
    async with host.converter(info.metadata.icc, **shape) as converter:
        back = await converter.convert(rows)
    inside = (rows > 4).all(axis=2) & (rows < 251).all(axis=2)
    assert inside.mean() > 0.2
    assert np.abs(back.astype(int) - pixels)[inside].max() <= 3


async def test_a_profile_counts_more_than_numbers(decode: Callable[..., Any]) -> None:
    info, rows = await decode(png(picture(), gama(100000), icc_profile=SRGB))
    assert np.array_equal(rows, picture())
    assert info.metadata.icc == SRGB


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (gama(0), "gAMA chunk was ignored"),
        (gama(2**31), "gAMA chunk was ignored"),
        (chrm((0,) * 8), "cHRM chunk was ignored"),
        (cicp(9, 16), "PQ"),
        (cicp(9, 18), "HLG"),
    ],
)
async def test_numbers_that_cannot_be_used_are_said_and_ignored(
    decode: Callable[..., Any], chunk: tuple[bytes, bytes], said: str
) -> None:
    info, rows = await decode(png(picture(), chunk))
    assert np.array_equal(rows, picture())
    assert said in info.remarks[0]


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
async def test_the_primaries_of_a_video_format_count(decode: Callable[..., Any], format: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 60, 60)).save(buffer, format, quality=95)
    data = buffer.getvalue()
    at = data.index(b"colrnclx") + 8
    plain, before = await decode(data[:at] + struct.pack(">HH", 1, 13) + data[at + 4 :])
    wide, after = await decode(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    assert (plain.is_converted, wide.is_converted) == (False, True)
    assert after[..., 0].mean() > before[..., 0].mean() + 5  # P3's red is beyond that of sRGB
