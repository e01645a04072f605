"""Grey and RGB rows, and alpha beside them. Rows are (n, width, planes), uint8 or uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]


def split_alpha(rows: Rows) -> tuple[Rows, Rows]:
    """Colour planes and the alpha plane (n, width, 1), as views."""
    return rows[..., :-1], rows[..., -1:]


def join_alpha(colour: Rows, alpha: Rows) -> Rows:
    return np.concatenate((colour, alpha), axis=2)


def to_rgb(colour: Rows) -> Rows:
    """Grey (n, width, 1) as RGB with three equal planes; RGB as it is. C-contiguous."""
    if colour.shape[2] == 1:
        return np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def over_white(rows: Rows) -> Rows:
    """Colour of rows with straight alpha laid over white, rounded to nearest."""
    colour, alpha = split_alpha(rows)
    top = np.uint32(np.iinfo(rows.dtype).max)
    wide = colour.astype(np.uint32) * alpha + top * (top - alpha.astype(np.uint32))
    return ((wide + top // 2) // top).astype(rows.dtype)


def to_bits(rows: Rows, bits: int) -> Rows:
    """Rows with 8 or 16 bits per value, full range to full range, rounded to nearest; the array itself if
    it has them."""
    if rows.dtype.itemsize * 8 == bits:
        return rows
    if bits == 16:
        return rows.astype(np.uint16) * np.uint16(257)
    return ((rows.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
