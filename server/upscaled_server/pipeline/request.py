"""What a caller asks for, in the server's own terms. `api/` translates the contract into these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from upscaled_server.access.caller import ANONYMOUS, Caller, Priority
from upscaled_server.intake.source_kinds import InputId, OutputId, Url
from upscaled_server.media.size import Fit


class Format(StrEnum):
    """Formats of encoded output; the values are what `media.encode` calls them."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    TIFF = "TIFF"
    AVIF = "AVIF"


class Compression(StrEnum):
    FAST = "fast"
    DEFAULT = "default"
    SMALL = "small"


class Alpha(StrEnum):
    RESAMPLE = "resample"
    NETWORK = "network"
    FLATTEN = "flatten"


class MetadataPolicy(StrEnum):
    KEEP = "keep"
    STRIP_GPS = "strip_gps"
    STRIP = "strip"


class ColorSpace(StrEnum):
    INPUT = "input"
    SRGB = "srgb"


class TileEncoding(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    RAW_RGB = "raw_rgb"
    RAW_RGBA = "raw_rgba"


class Delivery(StrEnum):
    INLINE = "inline"
    URL = "url"


@dataclass(frozen=True, slots=True)
class TileOptions:
    """Finished pieces of the output: side in output pixels, how they are encoded, quality 1..100 of lossy
    encodings."""

    size: int = 512
    encoding: TileEncoding = TileEncoding.PNG
    quality: int = 80


@dataclass(frozen=True, slots=True)
class Options:
    """`UpscaleOptions` of the contract; the units and limits stand there. None means not given."""

    model: str = ""
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.CONTAIN
    passes: int = 1
    format: Format = Format.PNG
    quality: int | None = None
    lossless: bool = False
    compression: Compression = Compression.DEFAULT
    progressive: bool = False
    full_chroma: bool = False
    bit_depth: int = 0
    denoise_strength: float | None = None
    alpha: Alpha = Alpha.RESAMPLE
    metadata: MetadataPolicy = MetadataPolicy.KEEP
    color_space: ColorSpace = ColorSpace.INPUT
    keep_colors: bool = False
    tiles: TileOptions | None = None
    delivery: Delivery = Delivery.INLINE
    priority: Priority | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    backend: str = ""
    file_name: str = ""
    omit_file: bool = False


@dataclass(frozen=True, slots=True)
class Bytes:
    """The encoded image itself."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chunks:
    """The encoded image, arriving; `announced_bytes` is 0 where the caller did not say."""

    chunks: AsyncIterator[bytes] = field(repr=False)
    announced_bytes: int = 0


Source = Bytes | Chunks | Url | InputId | OutputId


@dataclass(frozen=True, slots=True)
class Request:
    """One piece of work.

    `ledger_id` names it where it is charged, so that it is charged once: a job's id. Empty for calls, which
    go by `request_id`. `streamed`: who asked takes the events as they come, and is charged for those if the
    work is cut off; else nothing counts before the end. `handed_over` is awaited once everything has been
    given out, and what it raises fails the work before anything is charged: here a stored file is
    completed. It gives the seconds for which that was being written before.
    `fetch_seconds`: how long it took to have the bytes of the source, where that was before.
    """

    source: Source
    options: Options
    request_id: str = ""
    validate_only: bool = False
    caller: Caller = ANONYMOUS
    ledger_id: str = ""
    streamed: bool = False
    fetch_seconds: float = 0.0
    handed_over: Callable[[], Awaitable[float]] | None = field(default=None, repr=False)
