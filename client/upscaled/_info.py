"""What a server is and which models it runs, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from upscaled.v1 import models_pb2, server_pb2


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights as the server found them; `sha256` is 32 bytes."""

    source: str
    precision: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """The file a model's authors published; `sha256` is 32 bytes."""

    url: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights. `scale` is its factor per side; `seconds_per_megapixel` counts input pixels
    and was measured on this server if `speed_measured`.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    architecture: str
    scale: int
    license: str
    available: bool
    loaded: bool
    is_default: bool
    denoise: bool
    weights: Weights | None
    official_file: OfficialFile | None
    seconds_per_megapixel: float
    speed_measured: bool
    max_input_pixels: int

    @classmethod
    def from_message(cls, message: models_pb2.Model) -> Model:
        weights, official = message.weights, message.official_file
        return cls(
            name=message.name,
            aliases=tuple(message.aliases),
            description=message.description,
            architecture=message.architecture,
            scale=message.scale,
            license=message.license,
            available=message.available,
            loaded=message.loaded,
            is_default=message.is_default,
            denoise=message.denoise,
            weights=Weights(weights.source, weights.precision, weights.sha256, weights.size_bytes)
            if message.HasField("weights")
            else None,
            official_file=OfficialFile(official.url, official.sha256, official.size_bytes)
            if message.HasField("official_file")
            else None,
            seconds_per_megapixel=message.seconds_per_megapixel,
            speed_measured=message.speed_measured,
            max_input_pixels=message.max_input_pixels,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows this caller. Pixels are width times height; sides are in pixels."""

    max_input_pixels: int
    max_output_pixels: int
    max_input_bytes: int
    max_inline_bytes: int
    max_message_bytes: int
    max_scale: float
    max_passes: int
    max_output_side: int
    max_input_side: int
    min_input_side: int
    upload_idle_seconds: float
    max_concurrent: int
    default_retention: timedelta
    max_retention: timedelta

    @classmethod
    def from_message(cls, message: server_pb2.Limits) -> Limits:
        values = {name: getattr(message, name) for name in cls.__dataclass_fields__}
        for name in ("default_retention", "max_retention"):
            values[name] = values[name].ToTimedelta()
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Device:
    """Something that runs networks, such as `cpu` or `cuda:0`."""

    id: str
    name: str
    backend: str
    cores: int
    memory_bytes: int
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is. `unimplemented` names the parts of the contract that its version leaves out."""

    version: str
    limits: Limits
    devices: tuple[Device, ...]
    input_formats: tuple[str, ...]
    output_formats: tuple[str, ...]
    backends: tuple[str, ...]
    default_model: str
    authentication_required: bool
    unimplemented: tuple[str, ...]

    @classmethod
    def from_message(cls, message: server_pb2.ServerInfo) -> ServerInfo:
        return cls(
            version=message.version,
            limits=Limits.from_message(message.limits),
            devices=tuple(
                Device(d.id, d.name, d.backend, d.cores, d.memory_bytes, d.ready) for d in message.devices
            ),
            input_formats=tuple(message.input_formats),
            output_formats=tuple(message.output_formats),
            backends=tuple(message.backends),
            default_model=message.default_model,
            authentication_required=message.authentication_required,
            unimplemented=tuple(message.unimplemented),
        )
