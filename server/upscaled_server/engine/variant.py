"""Which network exactly: a model, what computes it, and how it is adjusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DENOISE_STEPS = 100
"""Denoise strengths are multiples of 1/100, so that what can be kept in memory has a bound."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A model as one request wants it. What is loaded, planned and measured is a variant.

    `model` is a catalogue name or alias. `backend` is empty for the device's own. `denoise`, in hundredths,
    is the share of the model's own weights against those of its counterpart; None is the model as it is.
    """

    model: str
    backend: str = ""
    denoise: int | None = None

    @classmethod
    def of(cls, model: str | Variant) -> Variant:
        """A plain name is the model as it is, on the device's own backend."""
        return model if isinstance(model, Variant) else cls(model)

    @property
    def speed_key(self) -> str:
        """Variants with one key take the same time."""
        return f"{self.model} on {self.backend}" if self.backend else self.model

    def __str__(self) -> str:
        return self.speed_key if self.denoise is None else f"{self.speed_key}, denoise {self.denoise}%"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `Variant(**values)` is the way back."""
        return asdict(self)
