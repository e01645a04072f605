"""Colour of visible pixels, extended under transparent ones.

What a file keeps under fully transparent pixels is arbitrary, most often black or white. A network sees it
beside the visible colour, and mixes the two at every edge: the dark or light fringe. So where alpha is
(nearly) zero, the colour becomes the mean of the visible colours around, weighted by their alpha: of the
nearest distance at which there are any, then of the next, up to `REACH` pixels.

The sums are of whole numbers, so that the result does not depend on how the image is cut into strips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]

_DISTANCES = (1, 2, 5, 12, 24)
"""Half sides in pixels of the squares that means are taken over."""
REACH = _DISTANCES[-1]
"""Rows above and below that a strip must bring with it."""
_BLOCK = 1024
"""Columns worked on at a time, so that memory does not grow with the width."""
_VISIBLE = 6
"""Of 255: pixels with this much alpha keep their colour."""


def extend_colour(rows: Rows) -> Rows:
    """Rows (n, width, colour planes + straight alpha) with the colour of invisible pixels replaced.

    Visible pixels are unchanged. Where nothing is visible within `REACH`, the colour stays as it is.
    """
    threshold = _VISIBLE * int(np.iinfo(rows.dtype).max) // 255
    alpha = rows[..., -1]
    hidden = alpha < threshold
    if not hidden.any() or not alpha.any():
        return rows
    out = rows.copy()
    for left in range(0, rows.shape[1], _BLOCK):
        right = min(left + _BLOCK, rows.shape[1])
        low, high = max(0, left - REACH), min(rows.shape[1], right + REACH)
        if hidden[:, left:right].any() and alpha[:, low:high].any():
            extended = _extended(rows[:, low:high], threshold)[:, left - low : right - low]
            mask = hidden[:, left:right]
            out[:, left:right, :-1][mask] = extended[mask]
    return out


def _extended(rows: Rows, threshold: int) -> NDArray[np.int64]:
    """The colour planes of `rows` as they would be if every pixel were hidden as far as its alpha says."""
    wide = rows.astype(np.int64)
    original, weight = wide[..., :-1], wide[..., -1:]
    sums = _Sums(np.concatenate([original * weight, weight], axis=2))
    # How much of a pixel's colour is settled, in parts of `threshold`: its own alpha, to begin with.
    settled = np.minimum(weight, threshold)
    colour = original * settled
    for distance in _DISTANCES:
        around = sums.square(distance)
        total = around[..., -1:]
        share = np.where(total > 0, threshold - settled, 0)
        colour += share * (around[..., :-1] // np.maximum(total, 1))
        settled += share
    colour += (threshold - settled) * original
    rounded: NDArray[np.int64] = (colour + threshold // 2) // threshold
    return rounded


class _Sums:
    """Sums over squares around every pixel, cut off at the edges, from one table of cumulated sums."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        height, width, planes = values.shape
        self._table = np.zeros((height + 1, width + 1, planes), np.int64)
        np.cumsum(values, axis=0, out=self._table[1:, 1:])
        np.cumsum(self._table[1:, 1:], axis=1, out=self._table[1:, 1:])
        self._rows, self._columns = np.arange(height), np.arange(width)

    def square(self, half: int) -> NDArray[np.int64]:
        height, width = len(self._rows), len(self._columns)
        above, below = np.maximum(self._rows - half, 0), np.minimum(self._rows + half + 1, height)
        left, right = np.maximum(self._columns - half, 0), np.minimum(self._columns + half + 1, width)
        bands = self._table[below] - self._table[above]
        sums: NDArray[np.int64] = bands[:, right] - bands[:, left]
        return sums
