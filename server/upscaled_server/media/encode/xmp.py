"""XMP packets made to fit another size. ISO 16684-1; the properties of EXIF in XMP: CIPA DC-010.

Packets are changed as text: a property is an attribute or an element, whatever prefix its namespace has.
A packet may be 8 MiB of a stranger's, so nothing here may look from each beginning for its end.
"""

from __future__ import annotations

import re
from bisect import bisect_left

_THUMBNAILS = rb"\w+:Thumbnails"
_GPS_ATTRIBUTE = re.compile(rb"""\s[\w.-]+:gps\w*\s*=\s*(?:"[^"]*"|'[^']*')""", re.IGNORECASE)
_GPS = rb"[\w.-]+:gps\w*"
_WIDTHS = rb"tiff:ImageWidth|exif:PixelXDimension"
_HEIGHTS = rb"tiff:ImageLength|exif:PixelYDimension"


def fitted(xmp: bytes, width: int, height: int) -> bytes:
    """The packet for an upright image of this size, without thumbnails."""
    xmp = _set(xmp, rb"tiff:Orientation", 1)
    xmp = _set(xmp, _WIDTHS, width)
    xmp = _set(xmp, _HEIGHTS, height)
    return _without_elements(xmp, _THUMBNAILS)


def without_position(xmp: bytes) -> bytes | None:
    """The packet without properties of a position; None if any trace of one might be left, as in packets
    that are not in UTF-8."""
    xmp = _without_elements(_GPS_ATTRIBUTE.sub(b"", xmp), _GPS)
    return None if b"\0" in xmp or b"gps" in xmp.lower() else xmp


def _without_elements(xmp: bytes, name: bytes) -> bytes:
    """The packet without the elements whose names match, their content included; one that does not end stays.
    Upper and lower case are the same."""
    ends: dict[bytes, list[tuple[int, int]]] = {}
    for closing in re.finditer(rb"</(" + name + rb")\s*>", xmp, re.IGNORECASE):
        ends.setdefault(closing[1].lower(), []).append(closing.span())
    kept, at = bytearray(), 0
    for opening in re.finditer(rb"<(" + name + rb")\b", xmp, re.IGNORECASE):
        if opening.start() < at:
            continue  # within one that is gone
        head = xmp.find(b">", opening.end())
        if head < 0:
            break
        end = head + 1
        if xmp[head - 1 : head] != b"/":
            closings = ends.get(opening[1].lower(), [])
            index = bisect_left(closings, (end, 0))
            if index == len(closings):
                continue
            end = closings[index][1]
        kept += xmp[at : opening.start()]
        at = end
    return bytes(kept + xmp[at:])


def _set(xmp: bytes, name: bytes, value: int) -> bytes:
    digits = str(value).encode()
    xmp = re.sub(rb"(\b(?:" + name + rb")\s*=\s*[\"'])\s*\d+\s*([\"'])", rb"\g<1>" + digits + rb"\g<2>", xmp)
    return re.sub(rb"(<(" + name + rb")>)\s*\d+\s*(</\2>)", rb"\g<1>" + digits + rb"\g<3>", xmp)
