"""PNG row filters (ISO/IEC 15948, section 9), vectorised over whole strips."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

NONE, SUB, UP, AVERAGE, PAETH = range(5)

_AT_ONCE_BYTES = 96 << 10
"""Of rows filtered at a time, so that what is in between stays in the cache."""


def filter_rows(
    rows: Bytes, above: Bytes | None, stride: int, kinds: tuple[int, ...], *, together: int = 1
) -> Bytes:
    """Filters each row with the one of `kinds` that leaves the smallest sum of absolute differences, the
    heuristic that the PNG specification recommends (section 12.8); `together` rows get one filter, that of
    the one in their middle.

    `rows` is (n, row bytes); `above` the row before the first, None for the image's first row; `stride` the
    bytes of a pixel. Returns (n, 1 + row bytes), the filter's number before each row.
    """
    count, width = rows.shape
    out = np.empty((count, 1 + width), np.uint8)
    if above is None:
        above = np.zeros(width, np.uint8)
    chosen = _chosen(rows, above, stride, kinds, together)
    out[:, 0] = chosen
    filtered = out[:, 1:]
    step = max(1, _AT_ONCE_BYTES // width)
    for kind, start, end in _stretches(chosen):
        if start == 0:
            _filter(kind, rows[:1], above[np.newaxis], stride, filtered[:1])
        for top in range(max(1, start), end, step):
            bottom = min(top + step, end)
            _filter(kind, rows[top:bottom], rows[top - 1 : bottom - 1], stride, filtered[top:bottom])
    return out


def _chosen(rows: Bytes, above: Bytes, stride: int, kinds: tuple[int, ...], together: int) -> Bytes:
    """The filter of each row."""
    count = len(rows)
    if len(kinds) == 1:
        return np.full(count, kinds[0], np.uint8)
    # The last group may be too short to have a middle: then its last row speaks for it.
    asked = np.minimum(np.arange(0, count, together) + together // 2, count - 1)
    middle, upper = rows[asked], rows[asked - 1]
    upper[asked == 0] = above
    candidate = np.empty_like(middle)
    costs = []
    for kind in kinds:
        _filter(kind, middle, upper, stride, candidate)
        # The distance to zero, modulo 256.
        costs.append(np.minimum(candidate, -candidate).sum(axis=1, dtype=np.uint32))
    best = np.array(kinds, np.uint8)[np.argmin(costs, axis=0)]
    return np.repeat(best, together)[:count]


def _stretches(chosen: Bytes) -> list[tuple[int, int, int]]:
    """Rows in a row that have one filter: (filter, first, end)."""
    edges = [0, *(np.flatnonzero(chosen[1:] != chosen[:-1]) + 1).tolist(), len(chosen)]
    return [(int(chosen[start]), start, end) for start, end in pairwise(edges)]


def _filter(kind: int, rows: Bytes, upper: Bytes, stride: int, out: Bytes) -> None:
    """`rows`, with those above each in `upper`, filtered into `out`; all are (n, row bytes)."""
    if kind == NONE:
        out[...] = rows
    elif kind == UP:
        np.subtract(rows, upper, out=out)
    elif kind == SUB:
        out[:, :stride] = rows[:, :stride]
        np.subtract(rows[:, stride:], rows[:, :-stride], out=out[:, stride:])
    elif kind == AVERAGE:
        np.subtract(rows[:, :stride], upper[:, :stride] >> 1, out=out[:, :stride])
        left, over = rows[:, :-stride], upper[:, stride:]
        # floor((a + b) / 2) without leaving 8 bits
        mean = left ^ over
        mean >>= 1
        mean += left & over
        np.subtract(rows[:, stride:], mean, out=out[:, stride:])
    else:
        np.subtract(rows, _paeth(rows, upper, stride), out=out)


def _paeth(rows: Bytes, upper: Bytes, stride: int) -> Bytes:
    """Of left, upper and upper left, the nearest to left + upper - upper left; ties in that order."""
    left, corner = np.zeros_like(rows), np.zeros_like(upper)
    left[:, stride:] = rows[:, :-stride]
    corner[:, stride:] = upper[:, :-stride]
    wide_corner = corner.astype(np.int16)
    to_left = upper - wide_corner
    to_upper = left - wide_corner
    to_corner = np.abs(to_left + to_upper)
    np.abs(to_left, out=to_left)
    np.abs(to_upper, out=to_upper)
    predicted = np.where(to_upper <= to_corner, upper, corner)
    return np.where((to_left <= to_upper) & (to_left <= to_corner), left, predicted)
