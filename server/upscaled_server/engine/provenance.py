"""Where a result comes from: recorded with every answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

WeightsOrigin = Literal["folder", "package", "release", "interpolated"]


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Which file the weights were read from.

    `sha256` is of the file as stored; of the `.bin` for the ncnn format. `verified`: it equals a hash in the
    catalogue (files from the operator's folder need not). Of interpolated weights `path` tells from which
    files and in which shares, and the hash and size are of the tensors.
    """

    origin: WeightsOrigin
    path: str
    sha256: str
    size_bytes: int
    verified: bool

    @property
    def described(self) -> str:
        """The origin, and for interpolated weights what went into them."""
        return f"interpolated: {self.path}" if self.origin == "interpolated" else self.origin


@dataclass(frozen=True, slots=True)
class Provenance:
    """`backend_version` is the version of ncnn or torch."""

    model: str
    backend: str
    backend_version: str
    precision: str
    device: str
    weights: WeightsSource

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
