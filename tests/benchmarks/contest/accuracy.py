"""How far a result is from the whole image in torch fp32, rounded to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 256


def compare(result: NDArray[Any], truth: NDArray[Any]) -> dict[str, float | None]:
    """`psnr` in dB (None: no value differs), `largest` difference of 255, `share` of values that differ."""
    if result.shape != truth.shape:
        raise ValueError(f"the result is {result.shape}, the truth {truth.shape}")
    squares, different, largest = 0.0, 0, 0
    for start in range(0, truth.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        difference = np.abs(result[rows].astype(np.int16) - truth[rows])
        squares += float(np.square(difference, dtype=np.int64).sum())
        different += int(np.count_nonzero(difference))
        largest = max(largest, int(difference.max()))
    mean = squares / truth.size
    return {
        "psnr": None if mean == 0 else round(float(10 * np.log10(255**2 / mean)), 2),
        "largest": largest,
        "share": different / truth.size,
    }
