"""What is upscaled: models, sizes, and pictures of these sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REPO = Path(__file__).resolve().parents[3]

# Width and height by what they are called. 0.14 is the size of the RRDB goals, 0.3 of the compact ones.
SIZES = {
    "0.06": (256, 240),
    "0.14": (448, 320),
    "0.3": (448, 640),
    "1": (1152, 864),
    "4": (2304, 1728),
}
COMPACT = ("real-esrgan-animevideo-v3", "real-esrgan-x4-v3")
RRDB = ("real-esrgan-x4-plus-anime", "real-esrgan-x4-plus")


@dataclass(frozen=True, slots=True)
class Case:
    """One model on one size."""

    model: str
    size: str

    def __str__(self) -> str:
        return f"{self.model} {self.size}"

    @property
    def width(self) -> int:
        return SIZES[self.size][0]

    @property
    def height(self) -> int:
        return SIZES[self.size][1]


FULL = (
    *(Case(model, size) for model in COMPACT for size in ("0.06", "0.3", "1", "4")),
    *(Case(model, size) for model in RRDB for size in ("0.06", "0.14", "0.3")),
)
SHORT = (
    Case("real-esrgan-animevideo-v3", "0.06"),
    Case("real-esrgan-animevideo-v3", "0.3"),
    Case("real-esrgan-x4-v3", "0.06"),
    Case("real-esrgan-x4-plus-anime", "0.06"),
)

# Seconds of a round of all entrants per megapixel, on two AVX2 cores: to say beforehand how long it takes.
_ROUND_SECONDS = {
    "real-esrgan-animevideo-v3": 77,
    "real-esrgan-x4-v3": 118,
    "real-esrgan-x4-plus-anime": 720,
    "real-esrgan-x4-plus": 1890,
}
_LONG_CASE_SECONDS = 420
"""Rounds from here on are mostly of entrants that take part in one only."""


def expected_minutes(case: Case, seconds: float) -> float:
    """About how long a case will take, whose rounds may take `seconds`: the warm-up, and at least three
    rounds or one."""
    one = _ROUND_SECONDS[case.model] * case.width * case.height / 1e6
    least = 1.5 if one > _LONG_CASE_SECONDS else 3
    return (20 + one * (1 + max(least, min(7, seconds // one)))) / 60


def source() -> Path:
    """The photograph that pictures are made of: a real one where the maintainers' folder is, else the
    sample."""
    real = REPO.parent / "shared" / "images" / "OST_009.png"
    return real if real.is_file() else REPO / "docs" / "sample.png"


def picture(case: Case) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: the photograph, mirrored at its borders as often as needed, at its own
    resolution."""
    photo = np.asarray(Image.open(source()).convert("RGB"))
    height, width, _ = photo.shape
    down, across = max(0, case.height - height), max(0, case.width - width)
    mirrored = np.pad(photo, ((0, down), (0, across), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(mirrored[: case.height, : case.width])
