"""What a file carries beside its pixels. Damage here never costs the image: the part is left out."""

from __future__ import annotations

import math
import struct
from typing import IO, Any

from PIL import ExifTags, Image, TiffImagePlugin

from upscaled_server.media.codec import structure
from upscaled_server.media.codec.wire import MAX_METADATA_BYTES
from upscaled_server.media.info import Metadata

_EXIF_PREFIX = b"Exif\0\0"
_IPTC_RESOURCE = 0x0404
_IPTC_TAG = 33723
# Tags of a TIFF's own directory that tell of the picture, not of how the file is laid out: description,
# maker, model, resolution, software, date, artist, copyright, and the titles that Windows writes.
_DESCRIPTIVE_TAGS = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298),
    *(0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)


def orientation(name: str, image: Image.Image, file: IO[bytes]) -> tuple[int, int]:
    """The EXIF orientation as found, and the one that is left to apply after Pillow has loaded the image."""
    try:
        if name == "PNG":
            late = None if "exif" in image.info else structure.png_exif(file)
            if late is not None:
                image.info["exif"] = _EXIF_PREFIX + late
            # Not the method of PNG images, which decodes the pixels in search of EXIF behind them.
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        found = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # hostile EXIF makes Pillow raise almost anything
        return 1, 1
    if type(found) is not int or not 1 <= found <= 8:
        return 1, 1
    # Pillow itself turns a TIFF while loading, and says so in its size from the start.
    return found, 1 if name == "TIFF" else found


def frames(name: str, image: Image.Image) -> int:
    """1, or at least 2. Never walks the whole file, as `n_frames` of GIF and TIFF does."""
    if name in ("GIF", "TIFF"):
        try:
            return 2 if getattr(image, "is_animated", False) else 1
        except Exception:  # looking for a second frame met damage behind the first
            return 1
    count = getattr(image, "n_frames", 1)
    return count if isinstance(count, int) and count > 1 else 1


def metadata(name: str, image: Image.Image) -> Metadata:
    """Call after `orientation`, which finds what a PNG carries behind its pixels."""
    info = image.info
    exif = _bytes(info.get("exif"))
    if exif is None and name == "TIFF":
        exif = _bytes(_tiff_exif(image))
    if exif is None and name == "PNG":
        exif = _bytes(_raw_profile(image, "exif"))
    xmp = info.get("xmp")
    if xmp is None:
        xmp = info.get("XML:com.adobe.xmp")
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=exif.removeprefix(_EXIF_PREFIX) if exif is not None else None,
        xmp=_bytes(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp),
        iptc=_bytes(_iptc(name, image)),
        dpi=_dpi(info.get("dpi")),
    )


def _raw_profile(image: Image.Image, kind: str) -> bytes | None:
    """What ImageMagick and ExifTool put into text of a PNG: kind, length, then hexadecimal digits."""
    text = image.info.get(f"Raw profile type {kind}")
    if not isinstance(text, str):
        return None
    try:
        data = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None
    if kind == "iptc" and data.startswith(b"8BIM\x04\x04"):  # still in its Photoshop resource
        data = data[12:]
    return data or None


def _tiff_exif(image: Image.Image) -> bytes | None:
    """The descriptive tags of a TIFF as EXIF; what describes its own layout stays behind."""
    try:
        found = image.getexif()
        kept = Image.Exif()
        for tag in _DESCRIPTIVE_TAGS:
            if tag in found:
                kept[tag] = found[tag]
        for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if directory := dict(found.get_ifd(tag)):
                kept.get_ifd(tag).update(directory)
        return kept.tobytes() if dict(kept) or kept._ifds else None
    except Exception:  # hostile EXIF makes Pillow raise almost anything
        return None


def _iptc(name: str, image: Image.Image) -> object:
    """The IPTC-IIM stream: a Photoshop resource of JPEG, a tag of its own or such a resource in TIFF."""
    try:
        if name == "PNG":
            return _raw_profile(image, "iptc")
        if name == "JPEG":
            return image.info.get("photoshop", {}).get(_IPTC_RESOURCE)
        if name == "TIFF" and isinstance(image, TiffImagePlugin.TiffImageFile):
            found = image.tag_v2.get(_IPTC_TAG)
            if isinstance(found, tuple):  # written as 32-bit numbers by some, in the order of the file
                order = ">" if image.tag_v2.prefix == b"MM" else "<"
                found = struct.pack(f"{order}{len(found)}I", *found)
            return found or image.get_photoshop_blocks().get(_IPTC_RESOURCE, {}).get("data")
    except Exception:  # as above
        return None
    return None


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) and 0 < len(value) <= MAX_METADATA_BYTES else None


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None
