"""How much of a message may be anything but an image.

A message may be as large as the largest image. Parsed, text, lists and maps of that size would take many
times as much memory, so these are measured before: what is not the content of a plain field of bytes.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_BESIDE_BYTES: Final = 1 << 20
"""Of a message, beside its image. `LimitSettings.max_message_bytes` has room for it."""

# More than any message of the contract has; an image is one field.
_MAX_FIELDS: Final = 10_000
_VARINT, _FIXED64, _WITH_LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10


def beside_image(kind: Descriptor, data: bytes) -> int:
    """Bytes of a message that are not the content of a plain field of bytes; 0 where the whole of it is
    within the limit. Whether it is protobuf at all is left to who parses it."""
    if len(data) <= MAX_BESIDE_BYTES:
        return 0
    return len(data) - _Walk(data).content_bytes(0, len(data), kind)


class _Walk:
    """Over the fields of a message, those of messages in it included, but not of lists."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields_left = _MAX_FIELDS

    def content_bytes(self, at: int, end: int, kind: Descriptor) -> int:
        """Bytes of the contents of plain fields of bytes between `at` and `end`, up to where there are too
        many fields or no more protobuf."""
        found = 0
        try:
            while at < end and self._fields_left:
                self._fields_left -= 1
                tag, at = self._varint(at)
                wire = tag & 7
                if wire == _WITH_LENGTH:
                    length, at = self._varint(at)
                    if at + length > end:
                        break
                    found += self._content_of(kind.fields_by_number.get(tag >> 3), at, length)
                    at += length
                elif wire == _VARINT:
                    _, at = self._varint(at)
                else:  # groups have a beginning and an end, and between them fields
                    at += {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        except IndexError:  # it ends in the middle
            pass
        return found

    def _content_of(self, field: FieldDescriptor | None, at: int, length: int) -> int:
        if field is None or field.is_repeated:
            return 0
        if field.type == FieldDescriptor.TYPE_BYTES:
            return length
        if field.message_type is not None:
            return self.content_bytes(at, at + length, field.message_type)
        return 0

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for number in range(_LONGEST_VARINT):
            byte = self._data[at + number]
            value |= (byte & 0x7F) << 7 * number
            if byte < 0x80:
                return value, at + number + 1
        raise IndexError
