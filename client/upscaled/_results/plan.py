"""What is said before and while an image is made."""

from __future__ import annotations

from dataclasses import dataclass

from upscaled import _enums
from upscaled.v1 import result_pb2


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
    estimated_wait_seconds: float

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
