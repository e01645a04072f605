"""XMP packets made to fit another size. ISO 16684-1; the properties of EXIF in XMP: CIPA DC-010.

Packets are changed as text: a property is an attribute or an element, whatever prefix its namespace has.
"""

from __future__ import annotations

import re

_THUMBNAILS = re.compile(rb"<(\w+:Thumbnails)\b.*?</\1\s*>", re.DOTALL)
_GPS_ATTRIBUTE = re.compile(rb"""\s[\w.-]+:gps\w*\s*=\s*(?:"[^"]*"|'[^']*')""", re.IGNORECASE)
_GPS_ELEMENT = re.compile(rb"<([\w.-]+:gps\w*)\b[^>]*?(?:/>|>.*?</\1\s*>)", re.IGNORECASE | re.DOTALL)
_WIDTHS = rb"tiff:ImageWidth|exif:PixelXDimension"
_HEIGHTS = rb"tiff:ImageLength|exif:PixelYDimension"


def fitted(xmp: bytes, width: int, height: int) -> bytes:
    """The packet for an upright image of this size, without thumbnails."""
    xmp = _set(xmp, rb"tiff:Orientation", 1)
    xmp = _set(xmp, _WIDTHS, width)
    xmp = _set(xmp, _HEIGHTS, height)
    return _THUMBNAILS.sub(b"", xmp)


def without_position(xmp: bytes) -> bytes | None:
    """The packet without properties of a position; None if any trace of one might be left, as in packets
    that are not in UTF-8."""
    xmp = _GPS_ELEMENT.sub(b"", _GPS_ATTRIBUTE.sub(b"", xmp))
    return None if b"\0" in xmp or b"gps" in xmp.lower() else xmp


def _set(xmp: bytes, name: bytes, value: int) -> bytes:
    digits = str(value).encode()
    xmp = re.sub(rb"(\b(?:" + name + rb")\s*=\s*[\"'])\s*\d+\s*([\"'])", rb"\g<1>" + digits + rb"\g<2>", xmp)
    return re.sub(rb"(<(" + name + rb")>)\s*\d+\s*(</\2>)", rb"\g<1>" + digits + rb"\g<3>", xmp)
