"""The directories of a TIFF file, and EXIF as tags of one. TIFF 6.0, sections 2 and 8; EXIF 2.32."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from upscaled_server.media.encode.exif import EXIF_IFD, GPS_IFD, TYPE_BYTES, ExifBlock, UnreadableExifError

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
# What the directory of the picture says of it: description, maker, model, software, date, artist,
# copyright, and the titles that Windows writes. All else there tells how the old file was laid out.
_DESCRIPTIVE = frozenset(
    (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F)
)
_INTEROPERABILITY_IFD = 0xA005


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry; `data` in little-endian order."""

    kind: int
    count: int
    data: bytes


@dataclass(slots=True)
class Directory:
    """Tags by number, and the directories that some of them point to."""

    tags: dict[int, Tag] = field(default_factory=dict)
    below: dict[int, Directory] = field(default_factory=dict)

    def set(self, number: int, kind: int, *values: int) -> None:
        letter = {BYTE: "B", SHORT: "H", LONG: "I"}[kind]
        self.tags[number] = Tag(kind, len(values), struct.pack(f"<{len(values)}{letter}", *values))

    def set_bytes(self, number: int, kind: int, data: bytes) -> None:
        self.tags[number] = Tag(kind, len(data), data)

    def set_rational(self, number: int, value: float) -> None:
        self.tags[number] = Tag(RATIONAL, 1, struct.pack("<II", min(round(value * 1000), 2**32 - 1), 1000))

    def packed(self, at: int) -> bytes:
        """This directory and everything it points to, to be put at the (even) offset `at` of a file."""
        entries = {**self.tags, **{number: Tag(LONG, 1, bytes(4)) for number in self.below}}
        heap_at = at + 2 + 12 * len(entries) + 4
        heap = bytearray()
        packed = bytearray(struct.pack("<H", len(entries)))
        for number in sorted(entries):
            tag = entries[number]
            data = tag.data
            if number in self.below:
                data = struct.pack("<I", heap_at + len(heap))
                heap += self.below[number].packed(heap_at + len(heap))
            elif len(data) > 4:
                data = struct.pack("<I", heap_at + len(heap))
                heap += tag.data
            heap += bytes(len(heap) % 2)
            packed += struct.pack("<HHI", number, tag.kind, tag.count) + data.ljust(4, b"\0")
        return bytes(packed + bytes(4) + heap)


def from_exif(exif: bytes) -> Directory:
    """The descriptive tags of EXIF with its own and its GPS directory; empty if it cannot be followed."""
    found = Directory()
    try:
        block = ExifBlock(exif)
        for number, tag in _tags(block, block.first).items():
            if number in _DESCRIPTIVE:
                found.tags[number] = tag
        for entry in block.entries(block.first):
            if entry.tag in (EXIF_IFD, GPS_IFD):
                tags = _tags(block, block.pointer(entry))
                tags.pop(_INTEROPERABILITY_IFD, None)
                if tags:
                    found.below[entry.tag] = Directory(tags)
    except UnreadableExifError:
        return Directory()
    return found


def _tags(block: ExifBlock, directory: int) -> dict[int, Tag]:
    tags: dict[int, Tag] = {}
    for entry in block.entries(directory):
        data = block.value(entry)
        if block.order == ">":
            data = _swapped(data, entry.kind)
        tags[entry.tag] = Tag(entry.kind, entry.count, data)
    return tags


def _swapped(data: bytes, kind: int) -> bytes:
    """Values in the other byte order; a rational is two of four bytes."""
    size = {RATIONAL: 4, 10: 4}.get(kind, TYPE_BYTES[kind])
    if size == 1:
        return data
    return np.frombuffer(data, f"u{size}").byteswap().tobytes()
