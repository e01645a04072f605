"""The enums of the contract and what they mean in the server's own terms, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from upscaled.v1 import options_pb2, result_pb2
from upscaled_server.access.caller import Priority
from upscaled_server.errors import InvalidField
from upscaled_server.media.size import Fit
from upscaled_server.pipeline import events
from upscaled_server.pipeline.request import (
    Alpha,
    ColorSpace,
    Compression,
    Delivery,
    Format,
    MetadataPolicy,
    TileEncoding,
)

FIT = {
    options_pb2.FIT_UNSPECIFIED: Fit.CONTAIN,
    options_pb2.FIT_CONTAIN: Fit.CONTAIN,
    options_pb2.FIT_COVER: Fit.COVER,
    options_pb2.FIT_STRETCH: Fit.STRETCH,
}
FORMAT = {
    options_pb2.FORMAT_UNSPECIFIED: Format.PNG,
    options_pb2.FORMAT_PNG: Format.PNG,
    options_pb2.FORMAT_JPEG: Format.JPEG,
    options_pb2.FORMAT_WEBP: Format.WEBP,
    options_pb2.FORMAT_TIFF: Format.TIFF,
    options_pb2.FORMAT_AVIF: Format.AVIF,
}
COMPRESSION = {
    options_pb2.COMPRESSION_UNSPECIFIED: Compression.DEFAULT,
    options_pb2.COMPRESSION_FAST: Compression.FAST,
    options_pb2.COMPRESSION_DEFAULT: Compression.DEFAULT,
    options_pb2.COMPRESSION_SMALL: Compression.SMALL,
}
CHROMA = {
    options_pb2.CHROMA_SUBSAMPLING_UNSPECIFIED: False,
    options_pb2.CHROMA_SUBSAMPLING_420: False,
    options_pb2.CHROMA_SUBSAMPLING_444: True,
}
ALPHA = {
    options_pb2.ALPHA_UNSPECIFIED: Alpha.RESAMPLE,
    options_pb2.ALPHA_RESAMPLE: Alpha.RESAMPLE,
    options_pb2.ALPHA_NETWORK: Alpha.NETWORK,
    options_pb2.ALPHA_FLATTEN: Alpha.FLATTEN,
}
METADATA = {
    options_pb2.METADATA_UNSPECIFIED: MetadataPolicy.KEEP,
    options_pb2.METADATA_KEEP: MetadataPolicy.KEEP,
    options_pb2.METADATA_STRIP_GPS: MetadataPolicy.STRIP_GPS,
    options_pb2.METADATA_STRIP: MetadataPolicy.STRIP,
}
COLOR_SPACE = {
    options_pb2.COLOR_SPACE_UNSPECIFIED: ColorSpace.INPUT,
    options_pb2.COLOR_SPACE_INPUT: ColorSpace.INPUT,
    options_pb2.COLOR_SPACE_SRGB: ColorSpace.SRGB,
}
TILE_ENCODING = {
    options_pb2.TILE_ENCODING_UNSPECIFIED: TileEncoding.PNG,
    options_pb2.TILE_ENCODING_PNG: TileEncoding.PNG,
    options_pb2.TILE_ENCODING_JPEG: TileEncoding.JPEG,
    options_pb2.TILE_ENCODING_WEBP: TileEncoding.WEBP,
    options_pb2.TILE_ENCODING_RAW_RGB: TileEncoding.RAW_RGB,
    options_pb2.TILE_ENCODING_RAW_RGBA: TileEncoding.RAW_RGBA,
}
DELIVERY = {
    options_pb2.DELIVERY_UNSPECIFIED: Delivery.INLINE,
    options_pb2.DELIVERY_INLINE: Delivery.INLINE,
    options_pb2.DELIVERY_URL: Delivery.URL,
}
PRIORITY = {
    options_pb2.PRIORITY_UNSPECIFIED: None,
    options_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    options_pb2.PRIORITY_BATCH: Priority.BATCH,
}
STAGE = {
    events.Stage.FETCH: result_pb2.STAGE_FETCH,
    events.Stage.DECODE: result_pb2.STAGE_DECODE,
    events.Stage.QUEUE: result_pb2.STAGE_QUEUE,
    events.Stage.INFER: result_pb2.STAGE_INFER,
    events.Stage.RESAMPLE: result_pb2.STAGE_RESAMPLE,
    events.Stage.ENCODE: result_pb2.STAGE_ENCODE,
    events.Stage.STORE: result_pb2.STAGE_STORE,
}

_K = TypeVar("_K")
_V = TypeVar("_V")


def known(field: str, table: Mapping[_K, _V], value: _K) -> _V:
    """The domain's value of an enum; numbers of a newer contract are refused, not guessed."""
    if value not in table:
        raise InvalidField(field, "is not a known value", limit=f"0 to {len(table) - 1}", actual=str(value))
    return table[value]


def contract(table: Mapping[_K, _V], value: _V) -> _K:
    """The contract's number of a domain value: the last one that means it, so never an UNSPECIFIED."""
    return next(number for number, known in reversed(list(table.items())) if known == value)
