"""Cheap checks of a file's structure that Pillow leaves out, made on the encoded bytes before decoding.

PNG: the checksum of every critical chunk up to the end chunk. Pillow skips those of the pixel data, and a
flipped bit there decodes to plausible noise. JPEG: the end marker, and the number of scans: each scan of a
progressive file walks over all coefficients again, so that a small file of many scans takes minutes
(libjpeg-turbo's own advice is a cap of 100 or 500). JPEG pixels: what libjpeg only warns of and then fills
with grey, such as a flipped bit in entropy-coded data, counts as damage.
"""

from __future__ import annotations

import importlib
import mmap
import re
import zlib
from typing import IO

from upscaled_server.errors import DamagedImage, LimitExceeded
from upscaled_server.media.codec.wire import printable

MAX_JPEG_SCANS = 100
_PNG_START = 8
# A marker that ends entropy-coded data: not a stuffed zero, a restart, or a fill byte.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Beginnings of what libjpeg warns of (jerror.h).
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression", "Invalid SOS parameters")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = {0x01, _SOI, *range(0xD0, 0xD8)}


def preload() -> None:
    importlib.import_module("simplejpeg")


def check(name: str, file: IO[bytes]) -> None:
    """Raises DamagedImage or LimitExceeded. Leaves the position of `file` undefined."""
    if name not in ("PNG", "JPEG"):
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if name == "PNG":
            _check_png(data)
        else:
            _check_jpeg(data)


def check_pixels(name: str, file: IO[bytes]) -> None:
    """Decodes a JPEG roughly, to hear what Pillow keeps from us. Leaves the position of `file` as it is.

    Raises DamagedImage. Needs memory for a 64th of the pixels, and for the coefficients of a progressive
    file.
    """
    if name != "JPEG":
        return
    import simplejpeg

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            space = "CMYK" if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK") else "GRAY"
            simplejpeg.decode_jpeg(data, space, fastdct=True, min_factor=8, strict=True)
        except ValueError as error:
            said = str(error)
            if any(part in said for part in _DAMAGE):
                raise DamagedImage(f"the file is damaged: {printable(said, 200)}") from error
            # Anything else is beyond this decoder; Pillow, whose own errors count, may still read it.


def png_exif(file: IO[bytes]) -> bytes | None:
    """The eXIf chunk, which may follow the pixels; Pillow would decode them all to find it."""
    return png_chunk(file, b"eXIf")


def png_chunk(file: IO[bytes], wanted: bytes) -> bytes | None:
    """The data of the first chunk of this kind."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for kind, start, length in _png_chunks(data):
            if kind == wanted:
                return data[start : start + length]
    return None


def _png_chunks(data: mmap.mmap) -> list[tuple[bytes, int, int]]:
    """Kind, start and length of the data of each whole chunk, the end chunk included."""
    chunks = []
    at = _PNG_START
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            break
        chunks.append((kind, at + 8, length))
        if kind == b"IEND":
            break
        at += 12 + length
    return chunks


def _check_png(data: mmap.mmap) -> None:
    chunks = _png_chunks(data)
    with memoryview(data) as view:
        for kind, start, length in chunks:
            critical = not kind[0] & 0x20
            if critical:
                with view[start - 4 : start + length] as covered:
                    found = zlib.crc32(covered)
                if found != int.from_bytes(data[start + length : start + length + 4], "big"):
                    raise DamagedImage(f"the file is damaged: wrong checksum in its {kind!r} chunk")
    if not chunks or chunks[-1][0] != b"IEND":
        raise DamagedImage("the file is cut short: its end chunk is missing")


def _check_jpeg(data: mmap.mmap) -> None:
    scans = 0
    at = 2
    while (marker := _JPEG_MARKER.search(data, at)) is not None:
        code = data[marker.end() - 1]
        at = marker.end()
        if code == _EOI:
            return
        if code in _STANDALONE:
            continue
        if code == _SOS:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise LimitExceeded(
                    "image", "too many JPEG scans", limit=MAX_JPEG_SCANS, actual="more", unit="scans"
                )
        at += int.from_bytes(data[at : at + 2], "big")
    raise DamagedImage("the file is cut short: its end marker is missing")
