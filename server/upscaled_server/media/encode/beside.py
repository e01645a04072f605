"""Metadata made to fit a new file: upright, and with a profile that suits the pixels."""

from __future__ import annotations

import dataclasses
import re
import struct

from upscaled_server.media.info import Metadata

_ORIENTATION = 0x0112
_SHORT = 3
_COLOUR_SPACE = {1: b"GRAY", 3: b"RGB "}
# tiff:Orientation as an attribute and as an element (XMP specification, part 2).
_XMP_ORIENTATION = (
    re.compile(rb"(\btiff:Orientation\s*=\s*[\"'])\s*\d+\s*([\"'])"),
    re.compile(rb"(<tiff:Orientation>)\s*\d+\s*(</tiff:Orientation>)"),
)


def fitting(metadata: Metadata, channels: int) -> Metadata:
    """`metadata` for an upright image of `channels` colour channels."""
    return dataclasses.replace(
        metadata,
        icc=metadata.icc if _suits(metadata.icc, channels) else None,
        exif=None if metadata.exif is None else upright_exif(metadata.exif),
        xmp=None if metadata.xmp is None else upright_xmp(metadata.xmp),
    )


def upright_exif(exif: bytes) -> bytes | None:
    """The same EXIF (a TIFF structure) with the orientation set to 1; None if its first directory is
    unreadable.

    The value is changed in place, so that nothing else can get lost on the way.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    patched = bytearray(exif)
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(entries):
            at = directory + 2 + 12 * entry
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag == _ORIENTATION:
                if kind != _SHORT or count != 1:
                    return None
                struct.pack_into(order + "HH", patched, at + 8, 1, 0)
    except struct.error:
        return None
    return bytes(patched)


def upright_xmp(xmp: bytes) -> bytes:
    for pattern in _XMP_ORIENTATION:
        xmp = pattern.sub(rb"\g<1>1\g<2>", xmp)
    return xmp


def _suits(icc: bytes | None, channels: int) -> bool:
    """Bytes 16..20 of a profile name the colour space of its device side (ICC.1, 7.2.6); 36..40 are its
    signature."""
    return icc is not None and icc[16:20] == _COLOUR_SPACE[channels] and icc[36:40] == b"acsp"
