"""Messages between the server, the zygote and its children.

On a child's row socket (stream): frames of one kind byte, a 4-byte little-endian length, and the payload.

    child   HEADER   u32 length of JSON, JSON, then ICC, EXIF, XMP and IPTC with the lengths the JSON gives
    server  one byte GO: memory has been set aside, decode
    child   DECODED  empty: the pixels are in memory, rows follow as fast as they are read
    child   ROWS     whole rows, C-contiguous, native byte order
    child   END      empty
    child   ERROR    JSON, instead of any of the above

A child that converts colours says DECODED once it has made sense of the profile; then each ROWS frame of the
server is answered by one of the same length, or by ERROR.

On the control socket (sequenced packets): JSON objects; a spawn request carries two descriptors,
the encoded bytes and the child's end of the row socket.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, TypeVar

from upscaled_server import errors
from upscaled_server.media.info import ImageInfo, Metadata

FRAME = struct.Struct("<cI")
HEADER = b"H"
DECODED = b"D"
ROWS = b"R"
END = b"Z"
ERROR = b"E"
GO = b"g"

MAX_CONTROL_BYTES = 4096
MAX_ERROR_BYTES = 4096
MAX_METADATA_BYTES = 8 << 20
"""Of one ICC profile, EXIF block or XMP packet. A larger one is left out."""
MAX_HEADER_BYTES = 4 * MAX_METADATA_BYTES + 4096
MAX_SIDE = 2**31 - 1
MAX_REMARKS = 8
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "HEIF")

T = TypeVar("T")

EXIT_OUR_FAULT = 70
"""Exit status of a child that failed outside the decoder; its traceback is on the zygote's stderr."""

_ERRORS: dict[str, type[errors.DomainError]] = {
    "NotAnImage": errors.NotAnImage,
    "DamagedImage": errors.DamagedImage,
    "UnsupportedImage": errors.UnsupportedImage,
    "ProcessingFailed": errors.ProcessingFailed,
}


class ProtocolBrokenError(ValueError):
    """A child sent something that no child of ours sends."""


@dataclass(frozen=True, slots=True)
class Header:
    """A child's first answer."""

    info: ImageInfo
    working_bytes: int
    """Estimated peak while decoding."""
    holding_bytes: int
    """Estimated memory once decoded, while rows are streamed."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a child that converts colours is given besides the profile: the shape of the rows."""

    width: int
    channels: int
    has_alpha: bool
    bits: int


def frame(kind: bytes, length: int) -> bytes:
    return FRAME.pack(kind, length)


def pack_header(header: Header) -> bytes:
    info, meta = header.info, header.info.metadata
    blobs = [meta.icc, meta.exif, meta.xmp, meta.iptc]
    text = json.dumps(
        {
            "format": info.format,
            "width": info.width,
            "height": info.height,
            "channels": info.channels,
            "has_alpha": info.has_alpha,
            "bits": info.bits,
            "frames": info.frames,
            "orientation": info.orientation,
            "dpi": meta.dpi,
            "is_converted": info.is_converted,
            "remarks": info.remarks[:MAX_REMARKS],
            "blobs": [None if blob is None else len(blob) for blob in blobs],
            "working_bytes": header.working_bytes,
            "holding_bytes": header.holding_bytes,
        }
    ).encode()
    return b"".join([struct.pack("<I", len(text)), text, *(blob for blob in blobs if blob is not None)])


def unpack_header(payload: bytes) -> Header:
    """Every value is checked: the child has read hostile bytes and may not be itself any more."""
    try:
        (length,) = struct.unpack_from("<I", payload)
        said = json.loads(payload[4 : 4 + length])
        icc, exif, xmp, iptc = _blobs(payload[4 + length :], said["blobs"])
        info = ImageInfo(
            format=_one_of(said["format"], FORMATS),
            width=_whole(said["width"], 1, MAX_SIDE),
            height=_whole(said["height"], 1, MAX_SIDE),
            channels=_one_of(said["channels"], (1, 3)),
            has_alpha=_one_of(said["has_alpha"], (False, True)),
            bits=_one_of(said["bits"], (8, 16)),
            frames=_whole(said["frames"], 1, MAX_SIDE),
            orientation=_whole(said["orientation"], 1, 8),
            metadata=Metadata(icc=icc, exif=exif, xmp=xmp, iptc=iptc, dpi=_dpi(said["dpi"])),
            is_converted=_one_of(said["is_converted"], (False, True)),
            remarks=tuple(printable(remark) for remark in said["remarks"][:MAX_REMARKS]),
        )
        return Header(
            info, _whole(said["working_bytes"], 0, 1 << 50), _whole(said["holding_bytes"], 0, 1 << 50)
        )
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ProtocolBrokenError(f"header: {error}") from error


def pack_error(error: errors.DomainError) -> bytes:
    said: dict[str, Any] = {"kind": type(error).__name__, "message": error.message[:500]}
    if isinstance(error, errors.LimitExceeded):
        said["limit"] = {name: error.numbers[name] for name in ("field", "limit", "actual", "unit")}
        said["problem"] = error.message.removeprefix("image: ").rsplit(" (limit:", 1)[0]
    return json.dumps(said).encode()


def unpack_error(payload: bytes) -> errors.DomainError:
    try:
        said = json.loads(payload)
        if said["kind"] == "LimitExceeded":
            numbers = said["limit"]
            return errors.LimitExceeded(
                "image",
                printable(said["problem"]),
                limit=_number(numbers["limit"]),
                actual=_number(numbers["actual"]),
                unit=printable(numbers["unit"]),
            )
        return _ERRORS[said["kind"]](printable(said["message"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolBrokenError(f"error: {error}") from error


def printable(text: str, limit: int = 300) -> str:
    """Text that comes from a file, fit for a message and a log line."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _number(value: object) -> int | float | str:
    return value if isinstance(value, int | float) else printable(str(value), 40)


def _whole(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{printable(repr(value), 40)} is not a whole number in {low}..{high}")
    return value


def _one_of(value: object, allowed: tuple[T, ...]) -> T:
    for candidate in allowed:
        if type(value) is type(candidate) and value == candidate:
            return candidate
    raise ValueError(f"{printable(repr(value), 40)} is none of {allowed}")


def _dpi(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    x, y = (float(part) for part in value)
    if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
        raise ValueError("dpi out of range")
    return x, y


def _blobs(payload: bytes, lengths: list[int | None]) -> list[bytes | None]:
    blobs: list[bytes | None] = []
    at = 0
    for length in lengths:
        if length is None:
            blobs.append(None)
            continue
        blobs.append(payload[at : at + _whole(length, 0, MAX_METADATA_BYTES)])
        at += length
    if len(blobs) != 4 or at != len(payload):
        raise ValueError("metadata lengths do not add up")
    return blobs
