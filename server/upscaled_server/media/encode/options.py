"""What may be asked of an encoder, and what its format cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from upscaled_server.errors import InvalidField, LimitExceeded

Format = Literal["PNG", "JPEG", "WEBP"]
Compression = Literal["fast", "default", "small"]
Subsampling = Literal["4:4:4", "4:2:0"]

# JPEG itself ends at 65535, but libjpeg, and so nearly every reader, at 65500.
_MAX_SIDE: dict[str, int] = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}
_PUBLIC_NAMES = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP"}


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Each option is read by the formats it names and ignored by the others."""

    quality: int = 90
    """JPEG and lossy WebP: 1 to 100."""
    subsampling: Subsampling = "4:2:0"
    """JPEG: colour at half resolution, or ("4:4:4") at full."""
    flatten_alpha: bool = False
    """JPEG: put a transparent image over white instead of refusing it."""
    lossless: bool = False
    """WebP. The colour of fully transparent pixels is kept too."""
    compression: Compression = "default"
    """PNG: "small" takes about fifteen times as long as the others and saves about 7%."""


def check_encodable(
    format: str,
    width: int,
    height: int,
    *,
    has_alpha: bool = False,
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
    if format == "JPEG" and has_alpha and not options.flatten_alpha:
        raise InvalidField(
            "options.format",
            "JPEG has no transparency; choose PNG or WebP, or flatten the image over white",
            limit="an image without alpha",
            actual="an image with alpha",
        )
