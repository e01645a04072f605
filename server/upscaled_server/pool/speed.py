"""How fast each model has been on each device: the numbers behind every estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MEMORY_PIXELS = 4e6
"""After this many input pixels a measurement counts 1/e of what it did."""


@dataclass(slots=True)
class _Mean:
    seconds: float = 0.0
    pixels: float = 0.0


class Speed:
    """Device seconds per input pixel, an exponentially weighted mean over pixels."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], _Mean] = {}

    def note(self, device: str, model: str, pixels: float, seconds: float) -> None:
        """A step computed this many input pixels, context included, in this time."""
        if pixels <= 0 or not seconds > 0:
            return
        mean = self._means.setdefault((device, model), _Mean())
        kept = math.exp(-pixels / _MEMORY_PIXELS)
        mean.seconds = mean.seconds * kept + seconds
        mean.pixels = mean.pixels * kept + pixels

    def seconds_per_pixel(self, device: str, model: str) -> float | None:
        """None before anything was measured."""
        mean = self._means.get((device, model))
        return None if mean is None else mean.seconds / mean.pixels
