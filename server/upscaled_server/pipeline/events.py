"""What happens while an image is made. The order is one Plan, then Progress, Tile and Chunk in any
mixture, then one Done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from upscaled_server.pipeline.request import Options, TileEncoding


class Stage(StrEnum):
    FETCH = "fetch"
    DECODE = "decode"
    QUEUE = "queue"
    INFER = "infer"
    RESAMPLE = "resample"
    ENCODE = "encode"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the work is laid out; sizes in pixels, see `Plan` of the contract."""

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
    max_output_bytes: int
    estimated_credits: Decimal = Decimal(0)
    estimated_wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    stage: Stage
    fraction: float
    rows_done: int
    rows_total: int
    remaining_seconds: float | None = None
    queue_position: int = 0


@dataclass(frozen=True, slots=True)
class Tile:
    """A finished rectangle of the output, position and size in output pixels."""

    sequence: int
    x: int
    y: int
    width: int
    height: int
    encoding: TileEncoding
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the pixels; `execution` is how the image was cut, as JSON."""

    model: str
    backend: str
    precision: str
    device: str
    weights_sha256: str
    weights_source: str
    execution: str


@dataclass(frozen=True, slots=True)
class Done:
    """The last event. `size_bytes` and `sha256` (hexadecimal) are of the whole file; None if no file was
    made. `credits_remaining` is None where credits are not kept, or the caller has no end of them."""

    plan: Plan
    settings: Options
    seconds: Mapping[Stage, float]
    total_seconds: float
    provenance: Provenance | None
    size_bytes: int | None
    sha256: str | None
    warnings: tuple[str, ...] = ()
    credits_charged: Decimal = Decimal(0)
    credits_remaining: Decimal | None = None


Event = Plan | Progress | Tile | Chunk | Done
