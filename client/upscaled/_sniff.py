"""How large an image says it is, told from the first bytes of a PNG, JPEG, GIF, WebP or BMP.

Only a hint for choosing between two calls: the server decides what the image is. A wrong or missing answer
costs nothing but the better choice.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Sniffed:
    """Size in pixels, and bytes per pixel of a decoded 8- or 16-bit image."""

    width: int
    height: int
    pixel_bytes: int


def sniff(data: bytes) -> Sniffed | None:
    """What the header says, `None` where it says nothing that is understood here."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
            # A grey or RGB image may still carry a transparent colour, which becomes a channel of its own.
            channels = max(_PNG_CHANNELS.get(colour, 4), 2 if colour == 0 else 4 if colour == 2 else 1)
            return Sniffed(width, height, channels * (2 if bits == 16 else 1))
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack("<HH", data[6:10])
            return Sniffed(width, height, 4)
        if data[:2] == b"BM":
            width, height = struct.unpack("<ii", data[18:26])
            return Sniffed(abs(width), abs(height), 4)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(data: bytes) -> Sniffed | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_STANDALONE:
            at += 1 if marker == 0xFF else 2
        elif marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack(">HHB", data[at + 5 : at + 10])
            return Sniffed(width, height, max(channels, 1))
        else:
            at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _webp(data: bytes) -> Sniffed | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return Sniffed(
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
            pixel_bytes=4,
        )
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Sniffed(width & 0x3FFF, height & 0x3FFF, pixel_bytes=3)
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return Sniffed(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), pixel_bytes=4)
    return None
