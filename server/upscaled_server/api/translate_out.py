"""From the server's own terms to the messages of the contract."""

from __future__ import annotations

from upscaled.v1 import options_pb2, result_pb2
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
    STAGE,
    TILE_ENCODING,
    contract,
)
from upscaled_server.pipeline import events
from upscaled_server.pipeline.request import Options


def from_options(options: Options) -> options_pb2.UpscaleOptions:
    """The options as they were used."""
    message = options_pb2.UpscaleOptions(
        model=options.model,
        scale=options.scale,
        width=options.width,
        height=options.height,
        fit=contract(FIT, options.fit),
        passes=options.passes,
        format=contract(FORMAT, options.format),
        quality=options.quality,
        lossless=options.lossless,
        compression=contract(COMPRESSION, options.compression),
        progressive=options.progressive,
        chroma_subsampling=contract(CHROMA, options.full_chroma),
        bit_depth=options.bit_depth,
        denoise_strength=options.denoise_strength,
        alpha=contract(ALPHA, options.alpha),
        metadata=contract(METADATA, options.metadata),
        color_space=contract(COLOR_SPACE, options.color_space),
        delivery=contract(DELIVERY, options.delivery),
        priority=contract(PRIORITY, options.priority),
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
                encoding=contract(TILE_ENCODING, options.tiles.encoding),
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
        estimated_credits=float(plan.estimated_credits),
        max_output_bytes=plan.max_output_bytes,
        estimated_wait_seconds=plan.estimated_wait_seconds,
    )


def from_progress(progress: events.Progress) -> result_pb2.Progress:
    return result_pb2.Progress(
        stage=STAGE[progress.stage],
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
        encoding=contract(TILE_ENCODING, tile.encoding),
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
                result_pb2.StageTiming(stage=STAGE[stage], seconds=seconds)
                for stage, seconds in done.seconds.items()
            ],
        ),
        credits=_from_credits(done),
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


def _from_credits(done: events.Done) -> result_pb2.Credits:
    left = done.credits_remaining
    return result_pb2.Credits(
        charged=float(done.credits_charged), remaining=None if left is None else float(left)
    )


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
            # In place: a message given to the constructor is copied by way of its wire format.
            message = result_pb2.UpscaleEvent()
            message.chunk.offset, message.chunk.data = event.offset, event.data
            return message
        case events.Done():
            done = from_done(event, request_id=request_id, server_version=server_version)
            return result_pb2.UpscaleEvent(done=done)
