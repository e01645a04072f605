"""EXIF, XMP, IPTC and profiles of strangers, made to fit a new file in the server's own process.

Nothing may be raised, and asked to be left out, no position may be left in what can be searched.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from tests.fuzz import seeds as all_seeds
from upscaled_server.media.encode import beside, tags
from upscaled_server.media.encode import xmp as xmp_packets
from upscaled_server.media.info import Metadata

_EXIF, _XMP, _ALL = range(3)
_XMP_PACKET = (
    b"<x:xmpmeta><rdf:Description tiff:Orientation='6' exif:GPSLatitude=\"41,22N\" exif:PixelXDimension='17'>"
    b"<exif:GPSAltitude>1</exif:GPSAltitude><xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails>"
    b"<tiff:ImageWidth>17</tiff:ImageWidth></rdf:Description></x:xmpmeta>"
)


def seeds() -> Iterator[bytes]:
    for data in all_seeds.images():
        try:
            with Image.open(io.BytesIO(data)) as image:
                exif, xmp = image.info.get("exif"), image.info.get("xmp")
        except Exception:
            continue
        if isinstance(exif, bytes):
            yield bytes((_EXIF,)) + exif.removeprefix(b"Exif\0\0")
        if isinstance(xmp, bytes):
            yield bytes((_XMP,)) + xmp
    yield bytes((_XMP,)) + _XMP_PACKET
    yield bytes((_ALL,)) + b"II*\0\x08\0\0\0\0\0\0\0\0\0\0\0" + _XMP_PACKET


def one_input(data: bytes) -> None:
    kind, rest = (data[0] % 3, data[1:]) if data else (_ALL, b"")
    metadata = Metadata(
        icc=rest if kind == _ALL else None,
        exif=None if kind == _XMP else rest,
        xmp=None if kind == _EXIF else rest,
        iptc=rest if kind == _ALL else None,
    )
    for each in (metadata, beside.without_position(metadata)):
        fitted = beside.fitting(each, 3, 68, 52)
        beside.lost(fitted, "JPEG")
        if fitted.exif is not None:
            tags.from_exif(fitted.exif).packed(8)
    bare = beside.without_position(metadata)
    if bare.xmp is not None:
        assert b"gps" not in bare.xmp.lower()
        assert b"gps" not in xmp_packets.fitted(bare.xmp, 68, 52).lower()
    if bare.exif is not None:
        assert 0x8825 not in tags.from_exif(bare.exif).below
