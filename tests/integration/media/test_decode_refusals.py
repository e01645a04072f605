"""Bytes that are not an image, or too much of one, are refused with a name and numbers, and cost nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from upscaled_server.errors import (
    DamagedImage,
    DomainError,
    ImageRejected,
    LimitExceeded,
    NotAnImage,
    UnsupportedImage,
)
from upscaled_server.media.codec import CodecHost, DecodeLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")


def noise(format_: str, size: tuple[int, int] = (120, 90), **options: Any) -> bytes:
    pixels = np.random.default_rng(41).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello", b"<html>", bytes(10_000), b"P6 this is a poem", b"BM", b"\xff\xd8\xff"]
)
async def test_what_is_not_an_image_is_refused(decode: Callable[..., Any], data: bytes) -> None:
    with pytest.raises(ImageRejected):
        await decode(data)


async def test_an_empty_body_is_said_to_be_empty(decode: Callable[..., Any]) -> None:
    with pytest.raises(NotAnImage, match="0 bytes"):
        await decode(b"")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypisom" + bytes(16), "video"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
async def test_other_formats_are_refused_by_name(decode: Callable[..., Any], data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedImage, match=what):
        await decode(data)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM"])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.98])
async def test_a_file_cut_short_is_refused(decode: Callable[..., Any], format_: str, share: float) -> None:
    data = noise(format_)
    with pytest.raises(ImageRejected):
        await decode(data[: int(len(data) * share)])


async def test_a_flipped_bit_in_the_pixels_of_a_png_is_noticed(decode: Callable[..., Any]) -> None:
    data = bytearray(noise("PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(DamagedImage, match="checksum"):
        await decode(bytes(data))


async def test_a_jpeg_without_its_end_is_refused_and_one_with_more_behind_it_works(
    decode: Callable[..., Any],
) -> None:
    data = noise("JPEG")
    with pytest.raises(DamagedImage):
        await decode(data[:-2])
    info, _ = await decode(data + b"trailing bytes \xff\xd8\xff")
    assert info.format == "JPEG"


@pytest.mark.parametrize("size", [(30_000, 30_000), (1, 2**31 - 1), (2**31 - 1, 1), (50_000_001, 1)])
async def test_a_header_beyond_the_limit_is_refused_in_megapixels(
    decode: Callable[..., Any], size: tuple[int, int]
) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await decode(png_header(*size))
    assert caught.value.numbers == {
        "field": "image",
        "limit": 50.0,
        "actual": size[0] * size[1] / 1e6,
        "unit": "megapixels",
    }


async def test_a_webp_canvas_beyond_the_limit_is_refused_before_it_is_allocated(
    decode: Callable[..., Any],
) -> None:
    side = (9400 - 1).to_bytes(3, "little")
    body = (
        b"VP8X" + struct.pack("<I", 10) + bytes(4) + side + side + b"VP8L" + struct.pack("<I", 5) + bytes(6)
    )
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    with pytest.raises(LimitExceeded) as caught:
        await decode(data, DecodeLimits(memory_bytes=64 << 20))
    assert caught.value.numbers["actual"] == 88.36


async def test_the_limit_itself_is_allowed(decode: Callable[..., Any]) -> None:
    limits = DecodeLimits(max_pixels=120 * 90)
    assert (await decode(noise("PNG"), limits))[1].shape == (90, 120, 3)
    with pytest.raises(LimitExceeded):
        await decode(noise("PNG", (121, 90)), limits)


async def test_more_memory_than_allowed_is_refused(decode: Callable[..., Any]) -> None:
    data = noise("BMP", (3000, 3000))
    with pytest.raises(LimitExceeded, match="memory") as caught:
        await decode(data, DecodeLimits(memory_bytes=16 << 20))
    assert caught.value.numbers["limit"] == 16


async def test_more_processor_time_than_allowed_is_refused(decode: Callable[..., Any]) -> None:
    data = b"P3 4000 2500 255\n" + b"7 " * 30_000_000  # text, which Pillow reads slowly
    with pytest.raises(LimitExceeded, match="processor time") as caught:
        await decode(data, DecodeLimits(cpu_seconds=1))
    assert caught.value.numbers["unit"] == "seconds"


async def test_a_decoder_that_keeps_us_waiting_is_killed(decode: Callable[..., Any]) -> None:
    with pytest.raises(LimitExceeded, match="too long"):
        await decode(noise("PNG", (2000, 2000)), DecodeLimits(wall_seconds=0.001))


async def test_a_jpeg_of_very_many_scans_is_refused_unseen(decode: Callable[..., Any]) -> None:
    data = noise("JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    end = data.index(b"\xff", at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    with pytest.raises(LimitExceeded, match="scans"):
        await decode(data[:at] + data[at:end] * 200 + data[at:])


async def test_a_probe_reads_the_header_only(host: CodecHost) -> None:
    data = noise("TIFF")
    info = await host.probe(data, DecodeLimits())
    assert (info.format, info.width, info.height, info.channels) == ("TIFF", 120, 90, 3)
    with pytest.raises(LimitExceeded):
        await host.probe(png_header(30_000, 30_000), DecodeLimits())
    with pytest.raises(NotAnImage):
        await host.probe(b"hello", DecodeLimits())


async def test_messages_carry_no_control_characters(decode: Callable[..., Any]) -> None:
    for data in (b"P6\n\x1b[31mFORGED-41\n", b"GIF89a\nFORGED\n", b"BM\r\nFORGED-41" + bytes(40)):
        with pytest.raises(DomainError) as caught:
            await decode(data)
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
async def test_what_libjpeg_only_warns_of_is_damage(
    decode: Callable[..., Any], options: dict[str, Any]
) -> None:
    data = bytearray(noise("JPEG", **options))
    assert (await decode(bytes(data)))[1].shape == (90, 120, 3)
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    with pytest.raises(DamagedImage):
        await decode(bytes(data))
