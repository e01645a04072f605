"""EXIF (a TIFF structure) made to fit another size, in place.

Nothing is laid out anew: what is not named here, such as the notes that cameras keep with offsets of their
own, stays where it is. EXIF 2.32; TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
_SHORT, _LONG = 3, 4
_ORIENTATION = 0x0112
_MAKER_NOTE = 0x927C
# ImageWidth and ImageLength of the first directory, PixelXDimension and PixelYDimension of Exif's own.
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
# Cameras write below 100; the work of following pointers grows with a power of their number.
_MAX_ENTRIES = 1000
# Directories below each directory. Interoperability holds nothing that changes.
_BELOW = {EXIF_IFD: (INTEROPERABILITY_IFD,), GPS_IFD: (), INTEROPERABILITY_IFD: (), 0: (EXIF_IFD, GPS_IFD)}


class UnreadableExifError(ValueError):
    """A structure that cannot be followed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: where its entry is, and where its value."""

    tag: int
    kind: int
    count: int
    at: int
    value_at: int
    size: int


class ExifBlock:
    """EXIF whose directories can be read, and values changed without moving anything."""

    def __init__(self, exif: bytes) -> None:
        """Raises UnreadableExifError if the first directory cannot be found."""
        order = {b"II": "<", b"MM": ">"}.get(exif[:2])
        if order is None or len(exif) < 8:
            raise UnreadableExifError("no byte order")
        self.data = bytearray(exif)
        self.order = order
        self.first = self._long(4)

    def entries(self, directory: int) -> Iterator[Entry]:
        """Entries whose values lie within the block.

        Raises UnreadableExifError if the directory does not, if it has more than 1000 entries, points twice
        to one kind of directory, or has values that together are larger than the block: work done for each
        of them would be far beyond the size of the file.
        """
        count = self._short(directory)
        if count > _MAX_ENTRIES:
            raise UnreadableExifError("too many entries")
        pointers, held = set(), 0
        for index in range(count):
            at = directory + 2 + 12 * index
            tag, kind, count = self._short(at), self._short(at + 2), self._long(at + 4)
            size = TYPE_BYTES.get(kind, 0) * count
            value_at = at + 8 if size <= 4 else self._long(at + 8)
            if kind in TYPE_BYTES and value_at + size <= len(self.data):
                held += size
                if tag in pointers or held > len(self.data):
                    raise UnreadableExifError("entries that overlap")
                if tag in _BELOW:
                    pointers.add(tag)
                yield Entry(tag, kind, count, at, value_at, size)

    def value(self, entry: Entry) -> bytes:
        return bytes(self.data[entry.value_at : entry.value_at + entry.size])

    def pointer(self, entry: Entry) -> int:
        """Where the directory is that a tag points to. Raises UnreadableExifError."""
        if entry.kind not in (_LONG, 13) or entry.count != 1:
            raise UnreadableExifError("a pointer of another type")
        return self._long(entry.value_at)

    def set_number(self, entry: Entry, value: int) -> None:
        """A single SHORT or LONG, which fits into the entry itself."""
        if entry.kind not in (_SHORT, _LONG) or entry.count != 1:
            raise UnreadableExifError("a number of another type")
        kind = _LONG if value > 0xFFFF else entry.kind
        inline = struct.pack(
            f"{self.order}{'I' if kind == _LONG else 'HH'}", value, *([0] * (kind == _SHORT))
        )
        struct.pack_into(f"{self.order}H", self.data, entry.at + 2, kind)
        self.data[entry.at + 8 : entry.at + 12] = inline

    def remove(self, directory: int, tags: tuple[int, ...]) -> None:
        """Takes entries out of a directory, and their values out of the block."""
        count = self._short(directory)
        end = self._end(directory)
        kept = bytearray()
        gone = [entry for entry in self.entries(directory) if entry.tag in tags]
        for entry in gone:
            self._wipe(entry.value_at, entry.size)
        for index in range(count):
            at = directory + 2 + 12 * index
            if self._short(at) not in tags:
                kept += self.data[at : at + 12]
        link = bytes(self.data[end : end + 4])
        struct.pack_into(f"{self.order}H", self.data, directory, len(kept) // 12)
        self.data[directory + 2 : end + 4] = (bytes(kept) + link).ljust(end + 4 - directory - 2, b"\0")

    def wipe_directory(self, directory: int) -> None:
        """Overwrites a directory and its values with zeros."""
        for entry in list(self.entries(directory)):
            self._wipe(entry.value_at, entry.size)
        self._wipe(directory, self._end(directory) + 4 - directory)

    def drop_thumbnail(self) -> None:
        """Ends the chain of directories after the first: what follows shows the old pixels."""
        link = self._end(self.first)
        if link + 4 > len(self.data):
            return  # some writers leave the link out
        second = self._long(link)
        struct.pack_into(f"{self.order}I", self.data, link, 0)
        if not second or second == self.first:
            return
        numbers = {entry.tag: entry for entry in self.entries(second)}
        for offset, length in ((0x0201, 0x0202), (0x0111, 0x0117)):
            if offset in numbers and length in numbers and numbers[offset].count == 1:
                at, size = self._number(numbers[offset]), self._number(numbers[length])
                if 8 <= at <= len(self.data):
                    self._wipe(at, min(size, len(self.data) - at))
        self.wipe_directory(second)

    def trimmed(self) -> bytes:
        """The block without the zeros at its end, but for those that belong to a value."""
        used = max(self._used(self.first, 0), 8)
        end = len(self.data)
        while end > used and not self.data[end - 1]:
            end -= 1
        return bytes(self.data[:end])

    def _used(self, directory: int, kind: int) -> int:
        end = min(self._end(directory) + 4, len(self.data))
        for entry in self.entries(directory):
            end = max(end, entry.value_at + entry.size)
            if entry.tag in _BELOW[kind]:
                end = max(end, self._used(self.pointer(entry), entry.tag))
        return end

    def _end(self, directory: int) -> int:
        return directory + 2 + 12 * self._short(directory)

    def _number(self, entry: Entry) -> int:
        return self._short(entry.value_at) if entry.kind == _SHORT else self._long(entry.value_at)

    def _wipe(self, at: int, size: int) -> None:
        self.data[at : at + size] = bytes(len(self.data[at : at + size]))

    def _short(self, at: int) -> int:
        return self._unpack("H", at)

    def _long(self, at: int) -> int:
        return self._unpack("I", at)

    def _unpack(self, kind: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + kind, self.data, at)[0])
        except struct.error as error:
            raise UnreadableExifError("an offset beyond the end") from error


def fitted(exif: bytes, width: int, height: int) -> bytes | None:
    """The same EXIF for an upright image of this size, without thumbnail; None if it cannot be followed."""
    try:
        block = ExifBlock(exif)
        block.drop_thumbnail()
        for directory in _directories(block):
            _fit(block, directory, width, height)
        return block.trimmed()
    except UnreadableExifError:
        return None


def without_position(exif: bytes) -> bytes | None:
    """The same EXIF without the GPS directory; None if it cannot be followed.

    Maker notes go too: some cameras repeat the position there, in ways only they know.
    """
    try:
        block = ExifBlock(exif)
        block.drop_thumbnail()
        for entry in list(block.entries(block.first)):
            if entry.tag == GPS_IFD:
                block.wipe_directory(block.pointer(entry))
        for directory in _directories(block):
            block.remove(directory, (_MAKER_NOTE, GPS_IFD))
        return block.trimmed()
    except UnreadableExifError:
        return None


def _directories(block: ExifBlock) -> list[int]:
    """The first directory and Exif's own."""
    below = [block.pointer(entry) for entry in block.entries(block.first) if entry.tag == EXIF_IFD]
    return [block.first, *below]


def _fit(block: ExifBlock, directory: int, width: int, height: int) -> None:
    for entry in list(block.entries(directory)):
        if entry.tag == _ORIENTATION:
            block.set_number(entry, 1)
        elif entry.tag in _WIDTHS:
            block.set_number(entry, width)
        elif entry.tag in _HEIGHTS:
            block.set_number(entry, height)
