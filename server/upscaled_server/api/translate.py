"""Between the messages of the contract and the server's own terms, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from upscaled.v1 import options_pb2, result_pb2
from upscaled_server.access.caller import Priority
from upscaled_server.errors import InvalidField, NotImplementedHere
from upscaled_server.media.size import Fit
from upscaled_server.pipeline import events
from upscaled_server.pipeline.request import (
    Alpha,
    Bytes,
    ColorSpace,
    Compression,
    Delivery,
    Format,
    MetadataPolicy,
    Options,
    TileEncoding,
    TileOptions,
)

_FIT = {
    options_pb2.FIT_UNSPECIFIED: Fit.CONTAIN,
    options_pb2.FIT_CONTAIN: Fit.CONTAIN,
    options_pb2.FIT_COVER: Fit.COVER,
    options_pb2.FIT_STRETCH: Fit.STRETCH,
}
_FORMAT = {
    options_pb2.FORMAT_UNSPECIFIED: Format.PNG,
    options_pb2.FORMAT_PNG: Format.PNG,
    options_pb2.FORMAT_JPEG: Format.JPEG,
    options_pb2.FORMAT_WEBP: Format.WEBP,
    options_pb2.FORMAT_TIFF: Format.TIFF,
    options_pb2.FORMAT_AVIF: Format.AVIF,
}
_COMPRESSION = {
    options_pb2.COMPRESSION_UNSPECIFIED: Compression.DEFAULT,
    options_pb2.COMPRESSION_FAST: Compression.FAST,
    options_pb2.COMPRESSION_DEFAULT: Compression.DEFAULT,
    options_pb2.COMPRESSION_SMALL: Compression.SMALL,
}
_CHROMA = {
    options_pb2.CHROMA_SUBSAMPLING_UNSPECIFIED: False,
    options_pb2.CHROMA_SUBSAMPLING_420: False,
    options_pb2.CHROMA_SUBSAMPLING_444: True,
}
_ALPHA = {
    options_pb2.ALPHA_UNSPECIFIED: Alpha.RESAMPLE,
    options_pb2.ALPHA_RESAMPLE: Alpha.RESAMPLE,
    options_pb2.ALPHA_NETWORK: Alpha.NETWORK,
    options_pb2.ALPHA_FLATTEN: Alpha.FLATTEN,
}
_METADATA = {
    options_pb2.METADATA_UNSPECIFIED: MetadataPolicy.KEEP,
    options_pb2.METADATA_KEEP: MetadataPolicy.KEEP,
    options_pb2.METADATA_STRIP_GPS: MetadataPolicy.STRIP_GPS,
    options_pb2.METADATA_STRIP: MetadataPolicy.STRIP,
}
_COLOR_SPACE = {
    options_pb2.COLOR_SPACE_UNSPECIFIED: ColorSpace.INPUT,
    options_pb2.COLOR_SPACE_INPUT: ColorSpace.INPUT,
    options_pb2.COLOR_SPACE_SRGB: ColorSpace.SRGB,
}
_TILE_ENCODING = {
    options_pb2.TILE_ENCODING_UNSPECIFIED: TileEncoding.PNG,
    options_pb2.TILE_ENCODING_PNG: TileEncoding.PNG,
    options_pb2.TILE_ENCODING_JPEG: TileEncoding.JPEG,
    options_pb2.TILE_ENCODING_WEBP: TileEncoding.WEBP,
    options_pb2.TILE_ENCODING_RAW_RGB: TileEncoding.RAW_RGB,
    options_pb2.TILE_ENCODING_RAW_RGBA: TileEncoding.RAW_RGBA,
}
_DELIVERY = {
    options_pb2.DELIVERY_UNSPECIFIED: Delivery.INLINE,
    options_pb2.DELIVERY_INLINE: Delivery.INLINE,
    options_pb2.DELIVERY_URL: Delivery.URL,
}
_PRIORITY = {
    options_pb2.PRIORITY_UNSPECIFIED: None,
    options_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    options_pb2.PRIORITY_BATCH: Priority.BATCH,
}
_STAGE = {
    events.Stage.FETCH: result_pb2.STAGE_FETCH,
    events.Stage.DECODE: result_pb2.STAGE_DECODE,
    events.Stage.QUEUE: result_pb2.STAGE_QUEUE,
    events.Stage.INFER: result_pb2.STAGE_INFER,
    events.Stage.RESAMPLE: result_pb2.STAGE_RESAMPLE,
    events.Stage.ENCODE: result_pb2.STAGE_ENCODE,
}

_K = TypeVar("_K")
_V = TypeVar("_V")

_MAX_LABELS = 32
_MAX_LABEL_VALUE_BYTES = 1024
_LABEL_KEY = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{0,128}")


def _known(field: str, table: Mapping[_K, _V], value: _K) -> _V:
    """The domain's value of an enum; numbers of a newer contract are refused, not guessed."""
    if value not in table:
        raise InvalidField(field, "is not a known value", limit=f"0 to {len(table) - 1}", actual=str(value))
    return table[value]


def _contract(table: Mapping[_K, _V], value: _V) -> _K:
    """The contract's number of a domain value: the last one that means it, so never an UNSPECIFIED."""
    return next(number for number, known in reversed(list(table.items())) if known == value)


def to_request_id(request_id: str) -> str:
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidField(
            "request_id",
            "must be printable ASCII",
            limit="128 characters",
            actual=f"{len(request_id)} characters",
        )
    return request_id


def to_bytes(source: options_pb2.Source, field: str = "source") -> Bytes:
    """The image of a source. Raises `NotImplementedHere` for the kinds that this version cannot fetch."""
    kind = source.WhichOneof("source")
    if kind is None:
        raise InvalidField(field, "is missing", limit="image, url, input_id or output_id", actual="nothing")
    if kind != "image":
        raise NotImplementedHere(f"Source.{kind}", instead="send the image itself")
    return Bytes(source.image)


def to_options(message: options_pb2.UpscaleOptions) -> Options:
    """Options in the server's terms. Ranges are checked later, by those who know them."""
    return Options(
        model=message.model,
        scale=message.scale if message.HasField("scale") else None,
        width=message.width if message.HasField("width") else None,
        height=message.height if message.HasField("height") else None,
        fit=_known("options.fit", _FIT, message.fit),
        passes=message.passes,
        format=_known("options.format", _FORMAT, message.format),
        quality=message.quality if message.HasField("quality") else None,
        lossless=message.lossless,
        compression=_known("options.compression", _COMPRESSION, message.compression),
        progressive=message.progressive,
        full_chroma=_known("options.chroma_subsampling", _CHROMA, message.chroma_subsampling),
        bit_depth=message.bit_depth,
        denoise_strength=message.denoise_strength if message.HasField("denoise_strength") else None,
        alpha=_known("options.alpha", _ALPHA, message.alpha),
        metadata=_known("options.metadata", _METADATA, message.metadata),
        color_space=_known("options.color_space", _COLOR_SPACE, message.color_space),
        tiles=_to_tile_options(message.tiles) if message.tiles.enabled else None,
        delivery=_known("options.delivery", _DELIVERY, message.delivery),
        priority=_known("options.priority", _PRIORITY, message.priority),
        labels=_to_labels(message.labels),
        backend=message.backend,
        file_name=message.file_name,
        omit_file=message.omit_file,
        keep_colors=message.keep_colors,
    )


def _to_tile_options(message: options_pb2.TileOptions) -> TileOptions:
    default = TileOptions()
    return TileOptions(
        size=message.size or default.size,
        encoding=_known("options.tiles.encoding", _TILE_ENCODING, message.encoding),
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


def from_options(options: Options) -> options_pb2.UpscaleOptions:
    """The options as they were used."""
    message = options_pb2.UpscaleOptions(
        model=options.model,
        scale=options.scale,
        width=options.width,
        height=options.height,
        fit=_contract(_FIT, options.fit),
        passes=options.passes,
        format=_contract(_FORMAT, options.format),
        quality=options.quality,
        lossless=options.lossless,
        compression=_contract(_COMPRESSION, options.compression),
        progressive=options.progressive,
        chroma_subsampling=_contract(_CHROMA, options.full_chroma),
        bit_depth=options.bit_depth,
        denoise_strength=options.denoise_strength,
        alpha=_contract(_ALPHA, options.alpha),
        metadata=_contract(_METADATA, options.metadata),
        color_space=_contract(_COLOR_SPACE, options.color_space),
        delivery=_contract(_DELIVERY, options.delivery),
        priority=_contract(_PRIORITY, options.priority),
        labels=options.labels,
        backend=options.backend,
        file_name=options.file_name,
        omit_file=options.omit_file,
        keep_colors=options.keep_colors,
    )
    if options.tiles is not None:
        message.tiles.CopyFrom(
            options_pb2.TileOptions(
                enabled=True,
                size=options.tiles.size,
                encoding=_contract(_TILE_ENCODING, options.tiles.encoding),
                quality=options.tiles.quality,
            )
        )
    return message


def from_plan(plan: events.Plan) -> result_pb2.Plan:
    return result_pb2.Plan(
        input_width=plan.input_width,
        input_height=plan.input_height,
        output_width=plan.output_width,
        output_height=plan.output_height,
        bit_depth=plan.bit_depth,
        channels=plan.channels,
        content_type=plan.content_type,
        file_name=plan.file_name,
        tile_count=plan.tile_count,
        tile_columns=plan.tile_columns,
        tile_size=plan.tile_size,
        recomputed_share=plan.recomputed_share,
        estimated_seconds=plan.estimated_seconds,
        queue_position=plan.queue_position,
        max_output_bytes=plan.max_output_bytes,
    )


def from_progress(progress: events.Progress) -> result_pb2.Progress:
    return result_pb2.Progress(
        stage=_STAGE[progress.stage],
        fraction=progress.fraction,
        rows_done=progress.rows_done,
        rows_total=progress.rows_total,
        remaining_seconds=progress.remaining_seconds,
        queue_position=progress.queue_position,
    )


def from_tile(tile: events.Tile) -> result_pb2.Tile:
    return result_pb2.Tile(
        sequence=tile.sequence,
        x=tile.x,
        y=tile.y,
        width=tile.width,
        height=tile.height,
        encoding=_contract(_TILE_ENCODING, tile.encoding),
        data=tile.data,
    )


def from_done(
    done: events.Done, *, request_id: str, server_version: str, data: bytes = b""
) -> result_pb2.UpscaleResult:
    """The result; `data` is the encoded file where it is delivered inline."""
    result = result_pb2.UpscaleResult(
        settings=from_options(done.settings),
        plan=from_plan(done.plan),
        timings=result_pb2.Timings(
            total_seconds=done.total_seconds,
            stages=[
                result_pb2.StageTiming(stage=_STAGE[stage], seconds=seconds)
                for stage, seconds in done.seconds.items()
            ],
        ),
        credits=result_pb2.Credits(charged=0),
        request_id=request_id,
        warnings=done.warnings,
    )
    if done.provenance is not None:
        result.provenance.CopyFrom(from_provenance(done.provenance, server_version))
    if done.size_bytes is not None and done.sha256 is not None:
        result.outputs.append(
            result_pb2.Output(
                file_name=done.plan.file_name,
                content_type=done.plan.content_type,
                width=done.plan.output_width,
                height=done.plan.output_height,
                size_bytes=done.size_bytes,
                sha256=bytes.fromhex(done.sha256),
                data=data,
            )
        )
    return result


def from_provenance(provenance: events.Provenance, server_version: str) -> result_pb2.Provenance:
    return result_pb2.Provenance(
        server_version=server_version,
        model=provenance.model,
        backend=provenance.backend,
        precision=provenance.precision,
        device=provenance.device,
        weights_sha256=bytes.fromhex(provenance.weights_sha256),
        weights_source=provenance.weights_source,
        execution=provenance.execution,
    )


def from_event(event: events.Event, *, request_id: str, server_version: str) -> result_pb2.UpscaleEvent:
    """One event of a stream."""
    match event:
        case events.Plan():
            return result_pb2.UpscaleEvent(plan=from_plan(event))
        case events.Progress():
            return result_pb2.UpscaleEvent(progress=from_progress(event))
        case events.Tile():
            return result_pb2.UpscaleEvent(tile=from_tile(event))
        case events.Chunk():
            return result_pb2.UpscaleEvent(chunk=result_pb2.Chunk(offset=event.offset, data=event.data))
        case events.Done():
            done = from_done(event, request_id=request_id, server_version=server_version)
            return result_pb2.UpscaleEvent(done=done)
