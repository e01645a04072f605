"""Models and sizes on a card, and a size for trying the benchmark out on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CardCase:
    """One model on one size. `together`: how many images are given to the card at a time."""

    model: str
    width: int
    height: int
    together: int = 8

    def __str__(self) -> str:
        return f"{self.model} {self.width}x{self.height}"


FULL = (
    CardCase("real-esrgan-x4-plus", 960, 540),
    CardCase("real-esrgan-animevideo-v3", 1920, 1080),
    CardCase("real-esrgan-x4-v3", 1920, 1080),
    CardCase("real-esrgan-animevideo-v3", 256, 256, together=32),
)
SMALL = (CardCase("real-esrgan-animevideo-v3", 48, 32, together=3),)
