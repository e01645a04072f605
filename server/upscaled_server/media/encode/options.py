"""What may be asked of an encoder, and what its format cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from upscaled_server.errors import InvalidField, LimitExceeded

Format = Literal["PNG", "JPEG", "WEBP", "TIFF", "AVIF"]
Compression = Literal["fast", "default", "small"]
Subsampling = Literal["4:4:4", "4:2:0"]

# JPEG itself ends at 65535, but libjpeg, and so nearly every reader, at 65500. Readers of AVIF refuse more
# than this by default (libavif's imageDimensionLimit and imageSizeLimit).
_MAX_SIDE: dict[str, int] = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383, "TIFF": 2**31 - 1, "AVIF": 32768}
_MAX_PIXELS: dict[str, int] = {"AVIF": 16384 * 16384}
_MAX_BYTES: dict[str, int] = {"TIFF": 2**32 - (64 << 20)}  # offsets have 32 bits; the rest is for metadata
_PUBLIC_NAMES = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "TIFF": "TIFF", "AVIF": "AVIF"}


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Each option is read by the formats it names and ignored by the others."""

    quality: int = 90
    """JPEG, AVIF and lossy WebP: 1 to 100."""
    progressive: bool = False
    """JPEG: coarse first; not written while rows arrive."""
    subsampling: Subsampling = "4:2:0"
    """JPEG and AVIF: colour at half resolution, or ("4:4:4") at full."""
    flatten_alpha: bool = False
    """JPEG: put a transparent image over white instead of refusing it."""
    lossless: bool = False
    """WebP. The colour of fully transparent pixels is kept too."""
    compression: Compression = "default"
    """PNG: "small" takes about fifteen times as long as the others and saves about 7%. TIFF: "small" is
    deflated, and not written while rows arrive; the others are uncompressed."""


def check_encodable(
    format: str,
    width: int,
    height: int,
    *,
    channels: int = 3,
    has_alpha: bool = False,
    bits: int = 8,
    options: EncodeOptions | None = None,
) -> None:
    """Raises InvalidField or LimitExceeded for what the encoder would have to refuse, before work starts."""
    options = options or EncodeOptions()
    if format not in get_args(Format):
        raise InvalidField(
            "options.format", "is not an output format", limit=", ".join(get_args(Format)), actual=format[:40]
        )
    if not 1 <= options.quality <= 100:
        raise InvalidField("options.quality", "is out of range", limit="1 to 100", actual=options.quality)
    name, limit = _PUBLIC_NAMES[format], _MAX_SIDE[format]
    if max(width, height) > limit:
        raise LimitExceeded(
            "options.format",
            f"{name} files are at most {limit} pixels wide and high; the result is {width}x{height}",
            limit=limit,
            actual=max(width, height),
            unit="pixels",
        )
    _check_area(format, width, height, width * height * (channels + has_alpha) * bits // 8)
    if format == "AVIF" and options.lossless:
        raise InvalidField(
            "options.lossless", "AVIF is written lossy", limit="PNG, TIFF or WebP", actual="AVIF"
        )
    if format == "JPEG" and has_alpha and not options.flatten_alpha:
        raise InvalidField(
            "options.format",
            "JPEG has no transparency; choose PNG or WebP, or flatten the image over white",
            limit="an image without alpha",
            actual="an image with alpha",
        )


def _check_area(format: str, width: int, height: int, raw_bytes: int) -> None:
    name = _PUBLIC_NAMES[format]
    if width * height > _MAX_PIXELS.get(format, width * height):
        raise LimitExceeded(
            "options.format",
            f"readers of {name} refuse larger images; the result is {width}x{height}",
            limit=_MAX_PIXELS[format] / 1e6,
            actual=width * height / 1e6,
            unit="megapixels",
        )
    if raw_bytes > _MAX_BYTES.get(format, raw_bytes):
        raise LimitExceeded(
            "options.format",
            f"{name} files end at 4 GiB; the result is {width}x{height}",
            limit=_MAX_BYTES[format] >> 20,
            actual=raw_bytes >> 20,
            unit="MiB",
        )
