"""Metadata made to fit a new file."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from upscaled_server.media.encode.beside import upright_exif, upright_xmp


@pytest.mark.parametrize("endian", ["<", ">"])
def test_only_the_orientation_is_changed(endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    for tag, value in ((0x010F, "Maker"), (0x0112, 7), (0x0132, "2026:01:01 00:00:00")):
        exif[tag] = value
    before = exif.tobytes()[6:]
    after = upright_exif(before)
    assert after is not None
    assert len(after) == len(before)
    read = Image.Exif()
    read.load(b"Exif\0\0" + after)
    assert (read[0x0112], read[0x010F], read[0x0132]) == (1, "Maker", "2026:01:01 00:00:00")
    assert upright_exif(after) == after


@given(st.binary(max_size=100))
def test_any_bytes_are_kept_in_length_or_left_out(data: bytes) -> None:
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        result = upright_exif(start + data)
        assert result is None or len(result) == len(start + data)


def test_exif_whose_orientation_cannot_be_reset_is_left_out() -> None:
    directory = struct.pack("<HHHII", 1, 0x0112, 4, 1, 6)  # a long where the standard wants a short
    assert upright_exif(b"II*\0\x08\0\0\0" + directory) is None
    assert upright_exif(b"junk") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<a tiff:Orientation="6" b="6"/>', b'<a tiff:Orientation="1" b="6"/>'),
        (b"<a tiff:Orientation = '8'/>", b"<a tiff:Orientation = '1'/>"),
        (b"<tiff:Orientation> 3 </tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b"<x/>", b"<x/>"),
    ],
)
def test_xmp_orientation_is_reset_in_both_its_forms(before: bytes, after: bytes) -> None:
    assert upright_xmp(before) == after
