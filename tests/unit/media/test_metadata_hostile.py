"""Metadata that is made to cost far more than its size: without the bounds, each of these takes minutes or
hours of the server's own process, and the test's time runs out."""

from __future__ import annotations

import struct

import pytest

from upscaled_server.media.encode import exif, tags, xmp

SIZE = 1 << 20
EXIF_IFD, GPS_IFD = 0x8769, 0x8825

pytestmark = pytest.mark.timeout(60)


def directory(entries: list[tuple[int, int, int, int]], link: int = 0) -> bytes:
    """Entries of tag, type, count and value."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", link)


def block(*directories: bytes, padding: int = 0) -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories) + bytes(padding)


@pytest.mark.parametrize(
    "repeated",
    [b"<x:Thumbnails ", b"<x:Thumbnails>", b"<x:gps ", b"<x:gps>", b"<x:GPSa/", b"</x:gps ", b" x:gps='"],
)
def test_elements_that_never_end_are_looked_at_once(repeated: bytes) -> None:
    packet = repeated * (SIZE // len(repeated))
    assert xmp.fitted(packet, 10, 10) == packet
    assert b"gps" not in (xmp.without_position(packet) or b"").lower()


def test_names_that_differ_are_looked_at_once_too() -> None:
    packet = b"".join(b"<a%d:Thumbnails><b%d:gps>" % (number, number) for number in range(40_000))
    assert xmp.fitted(packet, 10, 10) == packet
    assert xmp.without_position(packet) is None


def test_elements_in_any_case_go_with_what_is_in_them() -> None:
    packet = b"<r><e:GPSLatitude>41</E:gpslatitude ><e:gps a='1'/><x:Thumbnails><y/></x:Thumbnails>kept</r>"
    assert xmp.without_position(packet) == b"<r><x:Thumbnails><y/></x:Thumbnails>kept</r>"
    assert xmp.fitted(b"<x:Thumbnails>" + packet, 1, 1) == b"kept</r>"


@pytest.mark.parametrize("tag", [EXIF_IFD, GPS_IFD, 0x0112])
def test_a_directory_of_many_entries_cannot_be_followed(tag: int) -> None:
    exif_of_many = block(directory([(tag, 4, 1, 8)] * 65535))
    assert exif.fitted(exif_of_many, 10, 10) is None
    assert exif.without_position(exif_of_many) is None
    assert tags.from_exif(exif_of_many) == tags.Directory()


@pytest.mark.parametrize("tag", [EXIF_IFD, GPS_IFD])
def test_a_second_pointer_to_the_same_kind_of_directory_cannot_be_followed(tag: int) -> None:
    exif_of_two = block(directory([(tag, 4, 1, 8)] * 2))
    assert exif.without_position(exif_of_two) is None
    assert exif.fitted(exif_of_two, 10, 10) is None


def test_values_that_lie_on_each_other_cannot_be_followed() -> None:
    """In the first directory, and in the one of the thumbnail, whose values are overwritten."""
    values = directory([(0x9000 + number, 1, SIZE, 0) for number in range(900)])
    first = directory([(0x0112, 3, 1, 6)], link=8 + 2 + 12 + 4)
    for exif_of_values in (block(values, padding=SIZE), block(first, values, padding=SIZE)):
        assert exif.fitted(exif_of_values, 10, 10) is None
        assert exif.without_position(exif_of_values) is None


@pytest.mark.parametrize("kind", [1, 3, 5])
def test_a_large_value_in_the_other_byte_order_becomes_a_tag(kind: int) -> None:
    size = {1: 1, 3: 2, 5: 8}[kind]
    data = bytes(range(256)) * (SIZE // 256)
    packed = struct.pack(">H", 1) + struct.pack(">HHII", 0x010E, kind, SIZE // size, 8 + 2 + 12 + 4)
    found = tags.from_exif(b"MM\0*" + struct.pack(">I", 8) + packed + bytes(4) + data)
    swapped = {1: bytes((0, 1)), 3: bytes((1, 0)), 5: bytes((3, 2, 1, 0, 7, 6, 5, 4))}[kind]
    assert found.tags[0x010E].data[: len(swapped)] == swapped
    assert len(found.tags[0x010E].data) == SIZE
