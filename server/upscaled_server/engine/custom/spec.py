"""A model of the operator's folder as the catalogue lists it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from upscaled_server.engine.architectures import Custom


@dataclass(frozen=True, slots=True)
class CustomModel:
    """Its name is its file's, its numbers are measured. Beside `ModelSpec`, whose attributes of the same name
    mean the same. `sha256` and `size_bytes` are the file's."""

    name: str
    architecture: Custom
    halo: int
    seconds_per_pixel: float
    bytes_per_pixel: int
    sha256: str
    size_bytes: int

    aliases = ()
    content = "general"
    counterpart = ""
    licence = ""

    @property
    def title(self) -> str:
        return self.name

    @property
    def description(self) -> str:
        return f"A model of this server's own folder ({self.architecture})"

    @property
    def scale(self) -> int:
        return self.architecture.scale

    @property
    def multiple(self) -> int:
        return self.architecture.multiple

    @property
    def file_stems(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def only_backend(self) -> str:
        return "torch"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CustomModel:
        return cls(**{**values, "architecture": Custom(**values["architecture"])})
