"""What is told from an image's first bytes, and which call follows from it."""

from __future__ import annotations

import io
import struct

import pytest

from upscaled import Limits
from upscaled._aio.choice import fits_unary, output_bound
from upscaled._sniff import sniff
from upscaled.v1 import options_pb2, server_pb2

LIMITS = Limits.from_message(server_pb2.Limits(max_inline_bytes=32 << 20, max_message_bytes=64 << 20))


def png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_the_size_is_found_in_real_files(kind: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra images").new("RGB", (321, 123))
    file = io.BytesIO()
    image.save(file, kind)
    seen = sniff(file.getvalue())
    assert seen is not None
    assert (seen.width, seen.height) == (321, 123)
    assert seen.pixel_bytes >= 3


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\0\0" + b"\0" * 64}])
def test_the_size_is_found_in_the_other_forms_of_webp(options: dict[str, object]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra images").new("RGB", (321, 123))
    file = io.BytesIO()
    image.save(file, "WEBP", **options)
    seen = sniff(file.getvalue())
    assert seen is not None
    assert (seen.width, seen.height) == (321, 123)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"\xff\xd8\xff\xff\xff",
        b"GIF89a",
        b"RIFF0000WEBP",
        b"hello" * 99,
    ],
)
def test_what_is_no_header_says_nothing(data: bytes) -> None:
    assert sniff(data) is None


def test_sixteen_bits_and_alpha_count() -> None:
    for bits, colour, expected in [(8, 2, 4), (16, 6, 8), (16, 0, 4), (8, 3, 4)]:
        seen = sniff(png(1, 1, bits, colour))
        assert seen is not None
        assert seen.pixel_bytes == expected


def test_a_small_image_goes_through_the_unary_call() -> None:
    assert fits_unary(options_pb2.UpscaleOptions(), png(256, 256), LIMITS)


def test_a_large_answer_does_not() -> None:
    assert not fits_unary(options_pb2.UpscaleOptions(), png(1024, 1024), LIMITS)
    assert not fits_unary(options_pb2.UpscaleOptions(width=8192), png(16, 16), LIMITS)
    assert not fits_unary(options_pb2.UpscaleOptions(width=400), png(3, 400), LIMITS)
    assert fits_unary(options_pb2.UpscaleOptions(width=64), png(3, 4), LIMITS)


def test_what_is_unclear_does_not() -> None:
    assert not fits_unary(options_pb2.UpscaleOptions(), b"II*\0 a TIFF", LIMITS)
    assert not fits_unary(options_pb2.UpscaleOptions(), None, LIMITS)


def test_a_stored_answer_always_fits() -> None:
    assert fits_unary(options_pb2.UpscaleOptions(delivery=options_pb2.DELIVERY_URL), None, LIMITS)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_scale_is_left_to_the_server(scale: float) -> None:
    assert output_bound(options_pb2.UpscaleOptions(scale=scale), png(8, 8)) is not None
