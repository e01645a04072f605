"""Metadata made to fit a new file: its size, upright, and with a profile that suits the pixels."""

from __future__ import annotations

import dataclasses
import struct

from upscaled_server.media.encode import exif, xmp
from upscaled_server.media.info import Metadata

JPEG_SEGMENT_BYTES = 65533
_EXIF_PREFIX_BYTES, _XMP_PREFIX_BYTES = 6, 29
_COLOUR_SPACE = {1: b"GRAY", 3: b"RGB "}
_IPTC_RESOURCE = 0x0404
_PHOTOSHOP = b"Photoshop 3.0\0"
# Where each format has no place of its own; EXIF has a resolution too, which goes where EXIF goes.
_NO_IPTC = ("WEBP", "AVIF")


def fitting(metadata: Metadata, channels: int, width: int, height: int) -> Metadata:
    """`metadata` for an upright image of this size with `channels` colour channels."""
    return dataclasses.replace(
        metadata,
        icc=metadata.icc if _suits(metadata.icc, channels) else None,
        exif=None if metadata.exif is None else exif.fitted(metadata.exif, width, height),
        xmp=None if metadata.xmp is None else xmp.fitted(metadata.xmp, width, height),
    )


def without_position(metadata: Metadata) -> Metadata:
    """Without GPS. EXIF or XMP that cannot be searched is left out."""
    return dataclasses.replace(
        metadata,
        exif=None if metadata.exif is None else exif.without_position(metadata.exif),
        xmp=None if metadata.xmp is None else xmp.without_position(metadata.xmp),
    )


def lost(metadata: Metadata, format: str) -> tuple[str, ...]:
    """What of `metadata` a file of `format` has no place for, in words for the caller."""
    remarks = []
    if metadata.iptc is not None and format in _NO_IPTC:
        remarks.append(f"{format} has no place for IPTC: it was left out")
    if format == "JPEG":
        for name, part, prefix in (
            ("EXIF", metadata.exif, _EXIF_PREFIX_BYTES),
            ("XMP", metadata.xmp, _XMP_PREFIX_BYTES),
            ("IPTC", None if metadata.iptc is None else photoshop(metadata.iptc), 0),
        ):
            if part is not None and len(part) + prefix > JPEG_SEGMENT_BYTES:
                remarks.append(f"{name} is too large for JPEG: it was left out")
    return tuple(remarks)


def photoshop(iptc: bytes) -> bytes:
    """IPTC-IIM as the one Photoshop image resource of a JPEG segment (Adobe Photoshop file formats)."""
    resource = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    return _PHOTOSHOP + resource + b"\0" * (len(iptc) % 2)


def fits_jpeg_exif(metadata: Metadata) -> bool:
    return metadata.exif is not None and len(metadata.exif) + _EXIF_PREFIX_BYTES <= JPEG_SEGMENT_BYTES


def fits_jpeg_xmp(metadata: Metadata) -> bool:
    return metadata.xmp is not None and len(metadata.xmp) + _XMP_PREFIX_BYTES <= JPEG_SEGMENT_BYTES


def _suits(icc: bytes | None, channels: int) -> bool:
    """Bytes 16..20 of a profile name the colour space of its device side (ICC.1, 7.2.6); 36..40 are its
    signature."""
    return icc is not None and icc[16:20] == _COLOUR_SPACE[channels] and icc[36:40] == b"acsp"
