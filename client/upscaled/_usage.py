"""What a caller has used, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from upscaled._times import when
from upscaled.v1 import account_pb2


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Use of one model: pieces of work and megapixels that were delivered, credits that were charged."""

    model: str
    requests: int
    output_megapixels: float
    credits: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a caller has used between two times. `credits_monthly` and `credits_remaining` are `None` where
    credits are unlimited; `stored_bytes` counts inputs and outputs that are kept now.
    """

    caller: str
    start_time: datetime | None
    end_time: datetime | None
    credits_used: float
    credits_monthly: float | None
    credits_remaining: float | None
    stored_bytes: int
    models: tuple[ModelUsage, ...]

    @classmethod
    def from_message(cls, message: account_pb2.Usage) -> Usage:
        return cls(
            caller=message.caller,
            start_time=when(message, "start_time"),
            end_time=when(message, "end_time"),
            credits_used=message.credits_used,
            credits_monthly=message.credits_monthly if message.HasField("credits_monthly") else None,
            credits_remaining=message.credits_remaining if message.HasField("credits_remaining") else None,
            stored_bytes=message.stored_bytes,
            models=tuple(
                ModelUsage(m.model, m.requests, m.output_megapixels, m.credits) for m in message.models
            ),
        )
