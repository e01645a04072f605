"""What the work took, what it cost, and what made the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from upscaled import _enums
from upscaled.v1 import result_pb2


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
