"""PNG row filters (ISO/IEC 15948, section 9), vectorised over whole strips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

NONE, SUB, UP, AVERAGE, PAETH = range(5)


def filter_rows(rows: Bytes, above: Bytes | None, stride: int, kinds: tuple[int, ...]) -> Bytes:
    """Filters each row with the one of `kinds` that leaves the smallest sum of absolute differences.

    `rows` is (n, row bytes); `above` the row before the first, None for the image's first row; `stride` the
    bytes of a pixel. Returns (n, 1 + row bytes), the filter's number before each row. The choice is the
    heuristic that the PNG specification recommends (section 12.8).
    """
    count, width = rows.shape
    upper = np.empty_like(rows)
    upper[0] = 0 if above is None else above
    upper[1:] = rows[:-1]
    left = np.zeros_like(rows)
    left[:, stride:] = rows[:, :-stride]
    out = np.empty((count, 1 + width), np.uint8)
    if len(kinds) == 1:
        out[:, 0] = kinds[0]
        out[:, 1:] = _filtered(kinds[0], rows, left, upper, stride)
        return out
    best = np.full(count, np.iinfo(np.int64).max)
    for kind in kinds:
        candidate = _filtered(kind, rows, left, upper, stride)
        cost = _cost(candidate)
        better = cost < best
        best = np.where(better, cost, best)
        out[better, 0] = kind
        out[better, 1:] = candidate[better]
    return out


def _filtered(kind: int, rows: Bytes, left: Bytes, upper: Bytes, stride: int) -> Bytes:
    if kind == SUB:
        return rows - left
    if kind == UP:
        return rows - upper
    if kind == AVERAGE:
        # floor((a + b) / 2) without leaving 8 bits
        return rows - ((left & upper) + ((left ^ upper) >> 1))
    if kind == PAETH:
        return rows - _paeth(left, upper, stride)
    return rows


def _paeth(left: Bytes, upper: Bytes, stride: int) -> Bytes:
    """Of left, upper and upper left, the nearest to left + upper - upper left; ties in that order."""
    corner = np.zeros_like(upper)
    corner[:, stride:] = upper[:, :-stride]
    wide_corner = corner.astype(np.int16)
    to_left = upper - wide_corner
    to_upper = left - wide_corner
    to_corner = np.abs(to_left + to_upper)
    np.abs(to_left, out=to_left)
    np.abs(to_upper, out=to_upper)
    predicted = np.where(to_upper <= to_corner, upper, corner)
    return np.where((to_left <= to_upper) & (to_left <= to_corner), left, predicted)


def _cost(filtered: Bytes) -> NDArray[np.int64]:
    """Sum over each row of the distance to zero, modulo 256."""
    cost: NDArray[np.int64] = np.minimum(filtered, -filtered).sum(axis=1, dtype=np.int64)
    return cost
