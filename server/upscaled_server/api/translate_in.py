"""From the messages of the contract to the server's own terms."""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from upscaled.v1 import options_pb2
from upscaled_server.api.choices import (
    ALPHA,
    CHROMA,
    COLOR_SPACE,
    COMPRESSION,
    DELIVERY,
    FIT,
    FORMAT,
    METADATA,
    PRIORITY,
    TILE_ENCODING,
    known,
)
from upscaled_server.errors import InvalidField
from upscaled_server.intake.source_kinds import InputId, OutputId, Url
from upscaled_server.pipeline.request import Bytes, Options, TileOptions

_MAX_LABELS = 32
_MAX_LABEL_VALUE_BYTES = 1024
_LABEL_KEY = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_MAX_URL_CHARACTERS = 2048
_NANOS = 1_000_000_000
_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{0,128}")


def to_request_id(request_id: str) -> str:
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidField(
            "request_id",
            "must be printable ASCII",
            limit="128 characters",
            actual=f"{len(request_id)} characters",
        )
    return request_id


def to_source(source: options_pb2.Source, field: str = "source") -> Bytes | Url | InputId | OutputId:
    """Where the image is. Whether something is there is found out later."""
    kind = source.WhichOneof("source")
    match kind:
        case "image":
            return Bytes(source.image)
        case "url":
            return Url(_to_url(f"{field}.url", source.url))
        case "input_id":
            return InputId(to_id(f"{field}.input_id", source.input_id))
        case "output_id":
            return OutputId(to_id(f"{field}.output_id", source.output_id))
        case _:
            raise InvalidField(
                field, "is missing", limit="image, url, input_id or output_id", actual="nothing"
            )


def to_id(field: str, text: str) -> str:
    """The id of an input, an output or a job. Raises `InvalidField` for what cannot be one."""
    if not _ID.fullmatch(text):
        raise InvalidField(
            field, "is not an id", limit="26 characters of a ULID", actual=ascii(text[:80]) or "nothing"
        )
    return text


def _to_url(field: str, url: str) -> str:
    if not 0 < len(url) <= _MAX_URL_CHARACTERS:
        raise InvalidField(
            field, "has an unusable length", limit=f"1 to {_MAX_URL_CHARACTERS} characters", actual=len(url)
        )
    return url


def to_options(message: options_pb2.UpscaleOptions) -> Options:
    """Options in the server's terms. Ranges are checked later, by those who know them."""
    return Options(
        model=message.model,
        scale=message.scale if message.HasField("scale") else None,
        width=message.width if message.HasField("width") else None,
        height=message.height if message.HasField("height") else None,
        fit=known("options.fit", FIT, message.fit),
        passes=message.passes,
        format=known("options.format", FORMAT, message.format),
        quality=message.quality if message.HasField("quality") else None,
        lossless=message.lossless,
        compression=known("options.compression", COMPRESSION, message.compression),
        progressive=message.progressive,
        full_chroma=known("options.chroma_subsampling", CHROMA, message.chroma_subsampling),
        bit_depth=message.bit_depth,
        denoise_strength=message.denoise_strength if message.HasField("denoise_strength") else None,
        alpha=known("options.alpha", ALPHA, message.alpha),
        metadata=known("options.metadata", METADATA, message.metadata),
        color_space=known("options.color_space", COLOR_SPACE, message.color_space),
        tiles=_to_tile_options(message.tiles) if message.tiles.enabled else None,
        delivery=known("options.delivery", DELIVERY, message.delivery),
        priority=known("options.priority", PRIORITY, message.priority),
        labels=_to_labels(message.labels),
        backend=message.backend,
        file_name=message.file_name,
        omit_file=message.omit_file,
        keep_colors=message.keep_colors,
    )


def to_seconds(field: str, message: Duration) -> float:
    """However long: `ToTimedelta` raises for what is beyond 10,000 years. Raises `InvalidField` for
    nanoseconds that are a second or more, or of the other sign."""
    if abs(message.nanos) >= _NANOS or message.seconds * message.nanos < 0:
        raise InvalidField(
            f"{field}.nanos",
            "is not a part of a second",
            limit=f"below {_NANOS}, of the sign of seconds",
            actual=message.nanos,
        )
    seconds: float = message.seconds + message.nanos / _NANOS
    return seconds


def _to_tile_options(message: options_pb2.TileOptions) -> TileOptions:
    default = TileOptions()
    return TileOptions(
        size=message.size or default.size,
        encoding=known("options.tiles.encoding", TILE_ENCODING, message.encoding),
        quality=message.quality if message.HasField("quality") else default.quality,
    )


def _to_labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > _MAX_LABELS:
        raise InvalidField("options.labels", "has too many entries", limit=_MAX_LABELS, actual=len(labels))
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidField(
                "options.labels", "has a malformed key", limit=_LABEL_KEY.pattern, actual=ascii(key[:80])
            )
        size = len(value.encode())
        if size > _MAX_LABEL_VALUE_BYTES:
            raise InvalidField(
                f"options.labels[{key}]",
                "is too long",
                limit=f"{_MAX_LABEL_VALUE_BYTES} bytes",
                actual=f"{size} bytes",
            )
    return dict(labels)
