"""Every mode of every format becomes rows of grey or RGB, with or without alpha."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from upscaled_server.errors import UnsupportedImage

pytestmark = pytest.mark.asyncio(loop_scope="module")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(mode: str = "RGB", size: tuple[int, int] = (61, 47)) -> Image.Image:
    width, height = size
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 4, y * 5, (x + y) * 2, 255 - x * 3], axis=2).astype(np.uint8)
    image = Image.fromarray(planes, "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def assert_same_where_visible(rows: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """The colour under invisible pixels is the decoder's to choose."""
    visible = expected[:, :, -1] >= 6
    assert np.array_equal(rows[:, :, -1], expected[:, :, -1])
    assert np.array_equal(rows[visible], expected[visible])


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    array = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, np.newaxis]


LOSSLESS = [
    ("PNG", "1", "L"), ("PNG", "L", "L"), ("PNG", "LA", "LA"), ("PNG", "P", "RGB"), ("PNG", "RGB", "RGB"),
    ("PNG", "RGBA", "RGBA"), ("TIFF", "1", "L"), ("TIFF", "L", "L"), ("TIFF", "LA", "LA"),
    ("TIFF", "P", "RGB"),
    ("TIFF", "RGB", "RGB"), ("TIFF", "RGBA", "RGBA"), ("TIFF", "CMYK", "RGB"), ("BMP", "1", "L"),
    ("BMP", "L", "L"), ("BMP", "P", "RGB"), ("BMP", "RGB", "RGB"), ("GIF", "L", "L"), ("GIF", "P", "RGB"),
    ("PPM", "1", "L"), ("PPM", "L", "L"), ("PPM", "RGB", "RGB"),
]  # fmt: skip


@pytest.mark.parametrize(("format_", "mode", "becomes"), LOSSLESS)
async def test_lossless_files_give_the_pixels_that_were_saved(
    decode: Callable[..., Any], format_: str, mode: str, becomes: str
) -> None:
    image = photo("RGBA").convert("LA") if mode == "LA" else photo(mode)
    info, rows = await decode(encoded(image, format_))
    assert np.array_equal(rows, pixels(image.convert(becomes)))
    assert (info.format, info.width, info.height) == (format_, 61, 47)
    assert info.channels == (1 if becomes in ("L", "LA") else 3)
    assert info.has_alpha == becomes.endswith("A")
    assert (info.bits, info.frames, info.orientation) == (8, 1, 1)
    assert rows.dtype == np.uint8


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
async def test_compressed_tiff(decode: Callable[..., Any], compression: str) -> None:
    _, rows = await decode(encoded(photo(), "TIFF", compression=compression))
    assert np.array_equal(rows, pixels(photo()))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
async def test_webp_lossless(decode: Callable[..., Any], mode: str) -> None:
    info, rows = await decode(encoded(photo(mode), "WEBP", lossless=True, exact=True))
    assert np.array_equal(rows, pixels(photo(mode)))
    assert info.format == "WEBP"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
async def test_jpeg(decode: Callable[..., Any], mode: str, options: dict[str, Any]) -> None:
    data = encoded(photo(mode), "JPEG", **options)
    info, rows = await decode(data)
    assert np.array_equal(rows, pixels(Image.open(io.BytesIO(data))))
    assert (info.format, info.channels) == ("JPEG", 1 if mode == "L" else 3)


async def test_avif(decode: Callable[..., Any]) -> None:
    data = encoded(photo("RGBA"), "AVIF")
    info, rows = await decode(data)
    assert np.array_equal(rows, pixels(Image.open(io.BytesIO(data))))
    assert (info.format, info.has_alpha) == ("AVIF", True)


async def test_cmyk_jpeg_without_a_profile_is_converted_as_pillow_does(decode: Callable[..., Any]) -> None:
    data = encoded(photo("CMYK"), "JPEG", quality=95)
    info, rows = await decode(data)
    assert np.array_equal(rows, pixels(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(rows.astype(int) - pixels(photo())).mean() < 6
    assert info.channels == 3


async def test_cmyk_with_an_unusable_profile_is_converted_without_it(decode: Callable[..., Any]) -> None:
    data = encoded(photo("CMYK"), "TIFF", icc_profile=SRGB)  # not a CMYK profile
    info, rows = await decode(data)
    assert np.array_equal(rows, pixels(photo("CMYK").convert("RGB")))
    assert info.metadata.icc is None


async def test_lab_becomes_srgb(decode: Callable[..., Any]) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(photo(), to_lab)
    assert lab is not None
    _, rows = await decode(encoded(lab, "TIFF"))
    assert np.abs(rows.astype(int) - pixels(photo())).mean() < 3


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
async def test_16_bit_grey_keeps_its_16_bits(decode: Callable[..., Any], format_: str) -> None:
    values = np.random.default_rng(41).integers(0, 65536, (47, 61), np.uint16)
    info, rows = await decode(encoded(Image.fromarray(values), format_))
    assert (info.bits, info.channels, rows.dtype) == (16, 1, np.uint16)
    assert np.array_equal(rows[:, :, 0], values)


async def test_16_bit_pgm(decode: Callable[..., Any]) -> None:
    values = np.arange(61 * 47, dtype=np.uint16).reshape(47, 61) * 20
    info, rows = await decode(b"P5\n61 47\n65535\n" + values.astype(">u2").tobytes())
    assert (info.bits, info.channels) == (16, 1)
    assert np.array_equal(rows[:, :, 0], values)


async def test_palette_with_transparency_becomes_rgba(decode: Callable[..., Any]) -> None:
    image = photo("P")
    for transparency in (3, bytes(range(0, 256, 2)), b"\x00"):
        data = encoded(image, "PNG", transparency=transparency)
        info, rows = await decode(data)
        assert info.has_alpha
        assert_same_where_visible(rows, pixels(Image.open(io.BytesIO(data)).convert("RGBA")))


async def test_a_palette_of_greys_stays_grey(decode: Callable[..., Any]) -> None:
    for format_ in ("PNG", "GIF", "BMP", "TIFF"):
        image = photo("L").quantize(16)
        info, rows = await decode(encoded(image, format_))
        assert (info.channels, info.has_alpha) == (1, False)
        assert np.array_equal(rows, pixels(image.convert("L")))
    info, rows = await decode(encoded(image, "PNG", transparency=3))
    assert (info.channels, info.has_alpha) == (1, True)
    assert np.array_equal(rows[:, :, 1] == 0, np.asarray(image) == 3)


async def test_transparent_gif_becomes_rgba(decode: Callable[..., Any]) -> None:
    image = photo("P")
    data = encoded(image, "GIF", transparency=int(np.asarray(image)[20, 20]))
    info, rows = await decode(data)
    assert info.has_alpha
    assert rows[20, 20, 3] == 0
    assert_same_where_visible(rows, pixels(Image.open(io.BytesIO(data)).convert("RGBA")))


async def test_a_transparent_colour_becomes_alpha(decode: Callable[..., Any]) -> None:
    image = photo()
    image.paste((1, 2, 3), (0, 0, 10, 10))
    info, rows = await decode(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert (info.channels, info.has_alpha) == (3, True)
    assert (rows[:10, :10, 3] == 0).all()
    assert (rows[10:, 10:, 3] == 255).all()


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 2), (4, 9), (8, 77)])
async def test_a_transparent_grey_is_found_at_every_depth(
    decode: Callable[..., Any], depth: int, key: int
) -> None:
    line = b"\0" + bytes((0, key if depth == 8 else key << (8 - depth)))[: 2 if depth == 8 else 1]
    if depth < 8:  # two pixels of one byte: 0 and the key
        line = b"\0" + bytes([key << (8 - 2 * depth)])
    data = png_file(2, 1, depth, 0, line, [(b"tRNS", struct.pack(">H", key))])
    info, rows = await decode(data)
    assert (info.channels, info.has_alpha, info.bits) == (1, True, 8)
    assert rows.tolist() == [[[0, 255], [0, 0]]]  # the invisible pixel has its neighbour's colour


async def test_a_transparent_16_bit_grey(decode: Callable[..., Any]) -> None:
    data = png_file(2, 1, 16, 0, b"\0\x01\x02\x03\x04", [(b"tRNS", b"\x03\x04")])
    info, rows = await decode(data)
    assert (info.has_alpha, info.bits) == (True, 16)
    assert rows.tolist() == [[[0x0102, 65535], [0x0102, 0]]]


@pytest.mark.parametrize("mode", ["F", "I"])
async def test_values_without_a_range_are_refused_in_plain_words(
    decode: Callable[..., Any], mode: str
) -> None:
    with pytest.raises(UnsupportedImage, match=r"floating-point|32-bit"):
        await decode(encoded(photo("L").convert(mode), "TIFF"))


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "TIFF", "PNG"])
async def test_of_many_frames_the_first_is_given_and_said_to_be_one_of_several(
    decode: Callable[..., Any], format_: str
) -> None:
    first, second = photo("L"), photo("L").point(lambda value: 255 - value)
    options = {"lossless": True} if format_ == "WEBP" else {}
    info, rows = await decode(encoded(first, format_, save_all=True, append_images=[second], **options))
    assert info.frames >= 2
    assert np.array_equal(rows[:, :, :1], pixels(first))


async def test_mpo_opens_as_its_first_jpeg(decode: Callable[..., Any]) -> None:
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo()])
    info, rows = await decode(data)
    assert (info.format, info.frames) == ("JPEG", 2)
    assert rows.shape == (47, 61, 3)


async def test_what_lies_beside_the_pixels_is_reported(decode: Callable[..., Any]) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    for format_ in ("JPEG", "PNG", "WEBP"):
        data = encoded(photo(), format_, icc_profile=SRGB, exif=exif, dpi=(300, 300), xmp=b"<x/>")
        metadata = (await decode(data))[0].metadata
        assert metadata.icc == SRGB
        assert metadata.exif == exif.tobytes()[6:]
        if format_ != "WEBP":
            assert metadata.dpi == pytest.approx((300, 300), abs=0.1)


async def test_one_pixel_and_long_thin_images(decode: Callable[..., Any]) -> None:
    for size in ((1, 1), (1, 5000), (5000, 1)):
        info, rows = await decode(encoded(photo("RGB", size), "PNG"))
        assert (info.width, info.height) == size
        assert np.array_equal(rows, pixels(photo("RGB", size)))


async def test_how_many_rows_are_read_at_a_time_makes_no_difference(decode: Callable[..., Any]) -> None:
    data = encoded(photo("RGB", (1200, 900)), "PNG")
    _, expected = await decode(data, cut=900)
    for cut in (1, 333, 10_000):
        assert np.array_equal((await decode(data, cut=cut))[1], expected)


def png_file(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    lines: bytes,
    extra: list[tuple[bytes, bytes]] | None = None,
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *(extra or []), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
