"""What a file carries beside its pixels. Damage here never costs the image: the part is left out."""

from __future__ import annotations

import math
from typing import IO, Any

from PIL import ExifTags, Image

from upscaled_server.media.codec import structure
from upscaled_server.media.codec.wire import MAX_METADATA_BYTES
from upscaled_server.media.info import Metadata

_EXIF_PREFIX = b"Exif\0\0"


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


def metadata(image: Image.Image, *, keep_icc: bool) -> Metadata:
    """Call after `orientation`, which finds what a PNG carries behind its pixels."""
    info = image.info
    exif = _bytes(info.get("exif"))
    xmp = info.get("xmp")
    if xmp is None:
        xmp = info.get("XML:com.adobe.xmp")
    return Metadata(
        icc=_bytes(info.get("icc_profile")) if keep_icc else None,
        exif=exif.removeprefix(_EXIF_PREFIX) if exif is not None else None,
        xmp=_bytes(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp),
        dpi=_dpi(info.get("dpi")),
    )


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) and 0 < len(value) <= MAX_METADATA_BYTES else None


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None
