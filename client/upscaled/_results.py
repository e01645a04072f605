"""What a call answers with: the contract's result and events as plain values."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from upscaled import _enums
from upscaled._errors import NoDataError
from upscaled._files import PartialFile
from upscaled._types import Tiles
from upscaled.v1 import options_pb2, result_pb2


@dataclass(frozen=True, slots=True)
class Plan:
    """How the work is laid out, fixed when it was admitted. Sizes in pixels, `max_output_bytes` an upper
    bound.
    """

    input_width: int
    input_height: int
    output_width: int
    output_height: int
    bit_depth: int
    channels: int
    content_type: str
    file_name: str
    tile_count: int
    tile_columns: int
    tile_size: int
    recomputed_share: float
    estimated_seconds: float
    queue_position: int
    estimated_credits: float
    max_output_bytes: int

    @classmethod
    def from_message(cls, message: result_pb2.Plan) -> Plan:
        return cls(**{name: getattr(message, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the work stands. `stage` is `fetch`, `decode`, `queue`, `infer`, `resample`, `encode`, `store` or
    `callback`; `fraction` goes from 0 to 1 and never falls; rows are output rows."""

    stage: str
    fraction: float
    rows_done: int
    rows_total: int
    remaining_seconds: float | None
    queue_position: int

    @classmethod
    def from_message(cls, message: result_pb2.Progress) -> Progress:
        return cls(
            stage=_enums.STAGE.name(message.stage),
            fraction=message.fraction,
            rows_done=message.rows_done,
            rows_total=message.rows_total,
            remaining_seconds=message.remaining_seconds if message.HasField("remaining_seconds") else None,
            queue_position=message.queue_position,
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """A finished rectangle of the output. `data` is a whole file, or with `raw_rgb` and `raw_rgba` the pixels
    row by row, 8 bits a channel, without padding. `sequence` counts from 0 in the order of completion.
    """

    sequence: int
    x: int
    y: int
    width: int
    height: int
    encoding: str
    data: bytes = field(repr=False)

    @classmethod
    def from_message(cls, message: result_pb2.Tile) -> Tile:
        return cls(
            sequence=message.sequence,
            x=message.x,
            y=message.y,
            width=message.width,
            height=message.height,
            encoding=_enums.TILE_ENCODING.name(message.encoding),
            data=message.data,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of the encoded file, in order and without gaps."""

    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Output:
    """One encoded file. `data` is there if it was delivered inline, `path` if the SDK wrote it, `url` and
    `id` if the server stored it. `sha256` is the digest of the encoded file, 32 bytes.
    """

    id: str
    file_name: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    sha256: bytes = field(repr=False)
    url: str = ""
    url_expire_time: datetime | None = None
    expire_time: datetime | None = None
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    @classmethod
    def from_message(
        cls, message: result_pb2.Output, *, data: bytes | None = None, path: Path | None = None
    ) -> Output:
        return cls(
            id=message.id,
            file_name=message.file_name,
            content_type=message.content_type,
            width=message.width,
            height=message.height,
            size_bytes=message.size_bytes,
            sha256=message.sha256,
            url=message.url,
            url_expire_time=_time(message, "url_expire_time"),
            expire_time=_time(message, "expire_time"),
            data=data if data is not None else (message.data or None),
            path=path,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option with the value that was used, in the names that `upscale` takes. What does not apply is
    `None` or empty.
    """

    model: str
    scale: float | None
    width: int | None
    height: int | None
    fit: str
    passes: int
    format: str
    quality: int | None
    lossless: bool
    compression: str
    progressive: bool
    chroma_subsampling: str
    bit_depth: int
    denoise_strength: float | None
    alpha: str
    metadata: str
    color_space: str
    keep_colors: bool
    tiles: Tiles | None
    delivery: str
    priority: str
    labels: Mapping[str, str]
    backend: str
    file_name: str

    @classmethod
    def from_message(cls, message: options_pb2.UpscaleOptions) -> Settings:
        tiles = message.tiles
        return cls(
            model=message.model,
            scale=message.scale if message.HasField("scale") else None,
            width=message.width if message.HasField("width") else None,
            height=message.height if message.HasField("height") else None,
            fit=_enums.FIT.name(message.fit),
            passes=message.passes,
            format=_enums.FORMAT.name(message.format),
            quality=message.quality if message.HasField("quality") else None,
            lossless=message.lossless,
            compression=_enums.COMPRESSION.name(message.compression),
            progressive=message.progressive,
            chroma_subsampling=_enums.CHROMA_SUBSAMPLING.name(message.chroma_subsampling),
            bit_depth=message.bit_depth,
            denoise_strength=message.denoise_strength if message.HasField("denoise_strength") else None,
            alpha=_enums.ALPHA.name(message.alpha),
            metadata=_enums.METADATA.name(message.metadata),
            color_space=_enums.COLOR_SPACE.name(message.color_space),
            keep_colors=message.keep_colors,
            tiles=Tiles(
                size=tiles.size or None,
                encoding=_enums.TILE_ENCODING.name(tiles.encoding) or None,  # type: ignore[arg-type]
                quality=tiles.quality if tiles.HasField("quality") else None,
            )
            if tiles.enabled
            else None,
            delivery=_enums.DELIVERY.name(message.delivery),
            priority=_enums.PRIORITY.name(message.priority),
            labels=dict(message.labels),
            backend=message.backend,
            file_name=message.file_name,
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of wall time. `stages` in the order of the image's way; they overlap, so their sum may exceed
    `total_seconds`."""

    total_seconds: float
    stages: Mapping[str, float]

    @classmethod
    def from_message(cls, message: result_pb2.Timings) -> Timings:
        return cls(message.total_seconds, {_enums.STAGE.name(s.stage): s.seconds for s in message.stages})


@dataclass(frozen=True, slots=True)
class Credits:
    """What the work cost; `remaining` is `None` where credits are not kept."""

    charged: float
    remaining: float | None

    @classmethod
    def from_message(cls, message: result_pb2.Credits) -> Credits:
        return cls(message.charged, message.remaining if message.HasField("remaining") else None)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the pixels. `weights_sha256` is 32 bytes."""

    server_version: str
    model: str
    backend: str
    precision: str
    device: str
    weights_sha256: bytes
    weights_source: str
    execution: str

    @classmethod
    def from_message(cls, message: result_pb2.Provenance) -> Provenance:
        return cls(**{name: getattr(message, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Result:
    """A finished piece of work. `outputs` is empty when nothing was made: after `validate_only` or
    `omit_file`.
    """

    outputs: tuple[Output, ...]
    settings: Settings
    plan: Plan
    timings: Timings
    credits: Credits
    provenance: Provenance
    request_id: str
    warnings: tuple[str, ...]

    @classmethod
    def from_message(
        cls, message: result_pb2.UpscaleResult, *, data: bytes | None = None, path: Path | None = None
    ) -> Result:
        """`data` or `path` is where the chunks of the first output went."""
        outputs = tuple(
            Output.from_message(output, data=data if first else None, path=path if first else None)
            for first, output in zip([True, *[False] * len(message.outputs)], message.outputs, strict=False)
        )
        return cls(
            outputs=outputs,
            settings=Settings.from_message(message.settings),
            plan=Plan.from_message(message.plan),
            timings=Timings.from_message(message.timings),
            credits=Credits.from_message(message.credits),
            provenance=Provenance.from_message(message.provenance),
            request_id=message.request_id,
            warnings=tuple(message.warnings),
        )

    @property
    def output(self) -> Output:
        """The first output. NoDataError when there is none."""
        if not self.outputs:
            raise NoDataError(
                "the result has no output: the request only asked for a check, or for tiles without the file"
            )
        return self.outputs[0]

    @property
    def data(self) -> bytes:
        """The encoded file. NoDataError, which says where it is, when it is not in memory."""
        output = self.output
        if output.data is None:
            raise NoDataError(_elsewhere(output))
        return output.data

    @property
    def width(self) -> int:
        """Width of the output in pixels; of the planned one when nothing was made."""
        return self.outputs[0].width if self.outputs else self.plan.output_width

    @property
    def height(self) -> int:
        """Height of the output in pixels; of the planned one when nothing was made."""
        return self.outputs[0].height if self.outputs else self.plan.output_height

    @property
    def content_type(self) -> str:
        return self.outputs[0].content_type if self.outputs else self.plan.content_type

    @property
    def file_name(self) -> str:
        """The name the server suggests, with extension."""
        return self.outputs[0].file_name if self.outputs else self.plan.file_name

    @property
    def size_bytes(self) -> int:
        return self.output.size_bytes

    @property
    def sha256(self) -> bytes:
        return self.output.sha256

    @property
    def path(self) -> Path | None:
        """Where the SDK wrote the file, if `output=` asked for it."""
        return self.outputs[0].path if self.outputs else None

    @property
    def id(self) -> str:
        """The stored output's id; empty if it was not stored."""
        return self.outputs[0].id if self.outputs else ""

    @property
    def url(self) -> str:
        """Serves the stored file until it expires; empty if it was not stored."""
        return self.outputs[0].url if self.outputs else ""

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the file; what was at `path` is replaced in one step. An OSError if that cannot be done."""
        output = self.output
        if output.data is None and output.path is None:
            raise NoDataError(_elsewhere(output))
        with PartialFile(Path(path)) as part:
            if output.data is not None:
                part.write(output.data)
            elif output.path is not None:
                with output.path.open("rb") as source:
                    shutil.copyfileobj(source, part.file, 1024 * 1024)
            return part.publish()


@dataclass(frozen=True, slots=True)
class Done:
    """The last event: the file is whole and proven by size and SHA-256."""

    result: Result


Event: TypeAlias = Plan | Progress | Tile | Chunk | Done


def _time(message: result_pb2.Output, name: str) -> datetime | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)


def _elsewhere(output: Output) -> str:
    if output.path is not None:
        return f"the file was written to {output.path}; read it there"
    if output.url or output.id:
        return f"the server keeps the file as output {output.id!r}; fetch it from {output.url or 'there'}"
    return "the answer carried no bytes"
