"""Metadata made to fit a new file."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from upscaled_server.media.encode import beside, exif, tags, xmp
from upscaled_server.media.info import Metadata

MAKER_NOTE = b"Maker\0 41.38N 2.17E" + bytes(40)


def camera_exif(endian: str, *, thumbnail: bytes = b"\xff\xd8OLD PIXELS\xff\xd9") -> bytes:
    """What a camera writes: a directory with Exif and GPS below it, and a thumbnail behind."""
    order = endian
    blocks: list[bytes] = []
    at = 8

    def directory(entries: list[tuple[int, int, int, bytes]], link: int = 0) -> int:
        nonlocal at
        start, heap = at, b""
        heap_at = start + 2 + 12 * len(entries) + 4
        packed = struct.pack(f"{order}H", len(entries))
        for tag, kind, count, data in entries:
            inline = data.ljust(4, b"\0")
            if len(data) > 4:
                inline = struct.pack(f"{order}I", heap_at + len(heap))
                heap += data
            packed += struct.pack(f"{order}HHI", tag, kind, count) + inline
        packed += struct.pack(f"{order}I", link) + heap
        blocks.append(packed)
        at += len(packed)
        return start

    def number(kind: str, value: int) -> bytes:
        return struct.pack(order + kind, value)

    latitude = struct.pack(f"{order}6I", 41, 1, 22, 1, 48, 1)
    first_size = 2 + 12 * 6 + 4 + 8
    at += first_size
    own = directory(
        [
            (0x927C, 7, len(MAKER_NOTE), MAKER_NOTE),
            (0xA002, 3, 1, number("H", 640)),
            (0xA003, 4, 1, number("I", 480)),
        ]
    )
    gps = directory([(1, 2, 2, b"N\0"), (2, 5, 3, latitude)])
    second_at = at
    size = number("I", len(thumbnail))
    second = directory([(0x0201, 4, 1, number("I", second_at + 2 + 24 + 4)), (0x0202, 4, 1, size)])
    blocks.append(thumbnail)
    behind = blocks[:]
    blocks.clear()
    at = 8
    directory(
        [
            (0x010F, 2, 7, b"Camera\0"), (0x0112, 3, 1, number("H", 6)), (0x0100, 4, 1, number("I", 640)),
            (0x0101, 4, 1, number("I", 480)), (0x8769, 4, 1, number("I", own)),
            (0x8825, 4, 1, number("I", gps)),
        ],
        second,
    )  # fmt: skip
    blocks[0] = blocks[0].ljust(first_size, b"\0")
    return (b"II*\0" if order == "<" else b"MM\0*") + number("I", 8) + b"".join(blocks + behind)


def read(block: bytes | None) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    assert block is not None
    found = Image.Exif()
    found.load(b"Exif\0\0" + block)
    return dict(found), dict(found.get_ifd(0x8769)), dict(found.get_ifd(0x8825))


@pytest.mark.parametrize("endian", ["<", ">"])
def test_size_and_orientation_are_corrected_and_the_rest_stays(endian: str) -> None:
    first, own, gps = read(exif.fitted(camera_exif(endian), 2560, 70_000))
    assert (first[0x0112], first[0x0100], first[0x0101]) == (1, 2560, 70_000)
    assert (own[0xA002], own[0xA003], own[0x927C]) == (2560, 70_000, MAKER_NOTE)
    assert first[0x010F] == "Camera"
    assert [float(part) for part in gps[2]] == [41, 22, 48]


@pytest.mark.parametrize("endian", ["<", ">"])
def test_the_thumbnail_of_the_old_pixels_goes(endian: str) -> None:
    fitted = exif.fitted(camera_exif(endian), 1, 1)
    assert fitted is not None
    assert b"OLD PIXELS" not in fitted
    assert len(fitted) < len(camera_exif(endian, thumbnail=b""))


@pytest.mark.parametrize("endian", ["<", ">"])
def test_without_position_no_byte_of_it_is_left(endian: str) -> None:
    stripped = exif.without_position(camera_exif(endian))
    first, own, gps = read(stripped)
    assert stripped is not None
    assert gps == {}
    assert 0x8825 not in first
    assert 0x927C not in own
    assert first[0x010F] == "Camera"
    assert own[0xA002] == 640
    assert struct.pack(f"{endian}6I", 41, 1, 22, 1, 48, 1) not in stripped
    assert b"41.38N" not in stripped


@given(st.binary(max_size=200))
def test_any_bytes_are_fitted_or_left_out(data: bytes) -> None:
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        for result in (exif.fitted(start + data, 9, 9), exif.without_position(start + data)):
            assert result is None or len(result) <= len(start + data)
        tags.from_exif(start + data)


@given(st.integers(8, 400), st.integers(0, 255))
def test_a_damaged_block_is_fitted_or_left_out(at: int, value: int) -> None:
    block = bytearray(camera_exif("<"))
    block[at % len(block)] = value
    exif.fitted(bytes(block), 9, 9)
    exif.without_position(bytes(block))
    tags.from_exif(bytes(block))


def test_exif_whose_orientation_cannot_be_reset_is_left_out() -> None:
    directory = struct.pack("<HHHII", 1, 0x0112, 2, 4, 0x36363636)  # text where the standard wants a number
    assert exif.fitted(b"II*\0\x08\0\0\0" + directory, 9, 9) is None
    assert exif.fitted(b"junk", 9, 9) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<a tiff:Orientation="6" b="6"/>', b'<a tiff:Orientation="1" b="6"/>'),
        (b"<a tiff:Orientation = '8'/>", b"<a tiff:Orientation = '1'/>"),
        (b"<tiff:Orientation> 3 </tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b'<a exif:PixelXDimension="640"/>', b'<a exif:PixelXDimension="2560"/>'),
        (b'<a tiff:ImageLength="480"/>', b'<a tiff:ImageLength="1920"/>'),
        (b"<a><xmp:Thumbnails><rdf:Alt>old</rdf:Alt></xmp:Thumbnails>b</a>", b"<a>b</a>"),
        (b"<x/>", b"<x/>"),
    ],
)
def test_xmp_says_the_new_size(before: bytes, after: bytes) -> None:
    assert xmp.fitted(before, 2560, 1920) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<a exif:GPSLatitude="41,22.8N" b="c"/>', b'<a b="c"/>'),
        (b"<a><exif:GPSLongitude>2,10E</exif:GPSLongitude>b</a>", b"<a>b</a>"),
        (b'<a drone-dji:GpsLatitude="+41.38"/>', b"<a/>"),
        (b"<a><exif:GPSAltitude/>b</a>", b"<a>b</a>"),
        (b"<a>the gps of my car</a>", None),
        ("<a exif:GPSLatitude='1'/>".encode("utf-16-le"), None),
        (b"<x/>", b"<x/>"),
    ],
)
def test_xmp_without_position(before: bytes, after: bytes | None) -> None:
    assert xmp.without_position(before) == after


def test_what_a_format_has_no_place_for_is_said() -> None:
    assert beside.lost(Metadata(iptc=b"x"), "WEBP") == ("WEBP has no place for IPTC: it was left out",)
    assert beside.lost(Metadata(iptc=b"x", exif=b"x", xmp=b"x"), "JPEG") == ()
    large = beside.lost(Metadata(exif=bytes(65533), xmp=bytes(70_000), iptc=bytes(65533)), "JPEG")
    assert [remark.split()[0] for remark in large] == ["EXIF", "XMP", "IPTC"]
    assert beside.lost(Metadata(exif=bytes(70_000)), "PNG") == ()


def test_a_profile_of_another_space_is_left_out() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert beside.fitting(Metadata(icc=srgb), 3, 9, 9).icc == srgb
    assert beside.fitting(Metadata(icc=srgb), 1, 9, 9).icc is None


@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_becomes_tags_of_a_tiff(endian: str) -> None:
    found = tags.from_exif(camera_exif(endian))
    assert found.tags == {0x010F: tags.Tag(2, 7, b"Camera\0")}
    assert found.below[0x8769].tags[0xA003].data == struct.pack("<I", 480)
    assert found.below[0x8825].tags[2].data == struct.pack("<6I", 41, 1, 22, 1, 48, 1)
