"""Sixteen bits of colour arrive as sixteen bits, from every way a file can hold them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.asyncio(loop_scope="module")

Values = NDArray[np.uint16]
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def values(planes: int, height: int = 47, width: int = 61) -> Values:
    found = np.random.default_rng(41).integers(0, 65536, (height, width, planes), np.uint16)
    if planes in (2, 4):
        found[:, :, -1] |= 0x4000  # invisible pixels would not keep their colour
    return found


def png(pixels: Values, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    height, width, planes = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[planes], 0, 0, interlaced)
    passes = [pixels]
    if interlaced:
        starts = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]
        passes = [pixels[y::dy, x::dx] for y, x, dy, dx in starts]
    lines = b"".join(
        filtered(row, above, planes * 2, index % 5)
        for part in passes
        for index, (row, above) in enumerate(
            zip(part, np.concatenate([np.zeros_like(part[:1]), part[:-1]]), strict=True)
        )
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    )


def filtered(row: Values, above: Values, stride: int, kind: int) -> bytes:
    """One line with any of PNG's five filters, by the definition."""
    raw = list(row.astype(">u2").tobytes())
    up = list(above.astype(">u2").tobytes())
    out = bytearray([kind])
    for at, byte in enumerate(raw):
        a = raw[at - stride] if at >= stride else 0
        b, c = up[at], up[at - stride] if at >= stride else 0
        paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        out.append((byte - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
    return bytes(out)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(
    pixels: Values, *, order: str = "<", compressed: bool = False, planar: bool = False, extra: int = 2
) -> bytes:
    """A TIFF of two strips (or a strip per band), uncompressed or deflated."""
    height, width, planes = pixels.shape
    stored = pixels.astype(f"{order}u2")
    parts = [stored[:, :, plane] for plane in range(planes)] if planar else [stored[:30], stored[30:]]
    strips = [zlib.compress(part.tobytes()) if compressed else part.tobytes() for part in parts]
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [16] * planes),
        (259, "H", [8 if compressed else 1]), (262, "H", [2 if planes > 2 else 1]),
        (273, "I", []), (277, "H", [planes]), (278, "I", [height if planar else 30]),
        (279, "I", [len(strip) for strip in strips]), (284, "H", [2 if planar else 1]),
    ]  # fmt: skip
    if planes in (2, 4):
        tags.append((338, "H", [extra]))
    at = 8 + 2 + 12 * len(tags) + 4
    tail = at + sum(8 * len(values) for _, _, values in tags) + 8 * len(strips)
    offsets = [tail + sum(map(len, strips[:index])) for index in range(len(strips))]
    directory, heap = b"", b""
    for tag, kind, entries in tags:
        entries = offsets if tag == 273 else entries
        data = struct.pack(f"{order}{len(entries)}{kind}", *entries)
        inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}I", at + len(heap))
        heap += data if len(data) > 4 else b""
        directory += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(entries)) + inline
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return (start + directory + bytes(4) + heap).ljust(tail, b"\0") + b"".join(strips)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("planes", [2, 3, 4])
async def test_png(decode: Callable[..., Any], planes: int, interlaced: bool) -> None:
    expected = values(planes)
    info, rows = await decode(png(expected, interlaced=interlaced))
    assert (info.bits, info.channels, info.has_alpha) == (16, 3 if planes > 2 else 1, planes in (2, 4))
    assert np.array_equal(rows, expected)


async def test_a_transparent_colour_is_compared_with_all_its_bits(decode: Callable[..., Any]) -> None:
    expected = values(3)
    expected[10, 10], expected[10, 11] = (1000, 2000, 3000), (1000, 2000, 3001)
    info, rows = await decode(png(expected, extra=chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    assert (info.bits, info.has_alpha) == (16, True)
    assert np.argwhere(rows[:, :, 3] == 0).tolist() == [[10, 10]]
    visible = rows[:, :, 3] > 0
    assert np.array_equal(rows[visible][:, :3], expected[visible])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
async def test_tiff(decode: Callable[..., Any], planes: int, compressed: bool, order: str) -> None:
    expected = values(planes)
    info, rows = await decode(tiff(expected, order=order, compressed=compressed))
    assert (info.bits, info.channels, info.has_alpha) == (16, 3 if planes > 2 else 1, planes in (2, 4))
    assert np.array_equal(rows, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", [3, 4])
async def test_tiff_of_separate_bands(decode: Callable[..., Any], planes: int, order: str) -> None:
    expected = values(planes)
    info, rows = await decode(tiff(expected, order=order, planar=True))
    assert info.bits == 16
    assert np.array_equal(rows, expected)


async def test_compressed_separate_bands_have_8_bits_and_say_so(decode: Callable[..., Any]) -> None:
    expected = values(3)
    info, rows = await decode(tiff(expected, compressed=True, planar=True))
    assert info.bits == 8
    assert any("8 bits" in remark for remark in info.remarks)
    assert np.array_equal(rows, expected >> 8)


async def test_premultiplied_tiff_becomes_straight(decode: Callable[..., Any]) -> None:
    straight = values(4)
    premultiplied = straight.copy()
    alpha = straight[:, :, 3:].astype(np.uint64)
    premultiplied[:, :, :3] = (straight[:, :, :3] * alpha + 32767) // 65535
    _, rows = await decode(tiff(premultiplied, extra=1))
    assert np.array_equal(rows[:, :, 3], straight[:, :, 3])
    assert np.abs(rows.astype(int) - straight).max() <= 4


@pytest.mark.parametrize("most", [65535, 4095])
async def test_ppm(decode: Callable[..., Any], most: int) -> None:
    expected = np.minimum(values(3), most)
    info, rows = await decode(b"P6\n61 47\n%d\n" % most + expected.astype(">u2").tobytes())
    assert info.bits == 16
    assert np.array_equal(rows, expected.astype(np.uint32) * 65535 // most)


async def test_orientation_and_strips_are_those_of_eight_bits(decode: Callable[..., Any]) -> None:
    expected = values(3, 700, 300)
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    info, rows = await decode(png(expected, extra=chunk(b"eXIf", exif)))
    assert (info.width, info.height, info.orientation) == (700, 300, 6)
    assert np.array_equal(rows, np.rot90(expected, -1))


async def test_the_real_one(decode: Callable[..., Any], shared_images: Any) -> None:
    info, rows = await decode((shared_images / "tree_alpha_16bit.png").read_bytes())
    assert (info.bits, info.channels, info.has_alpha, rows.shape) == (16, 3, True, (256, 342, 4))
    assert (rows & 0xFF != rows >> 8).mean() > 0.3  # more than 8 bits made wider
