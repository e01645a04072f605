"""EXIF orientation, applied to strips: which part of the stored image a strip of the upright one comes from.

The eight values as EXIF 2.32 defines them (tag 0x0112): 1 upright, 2 mirrored, 3 turned by 180 degrees, 4
flipped, 5 transposed, 6 to be turned 90 degrees clockwise, 7 transversed, 8 to be turned 90 degrees
counterclockwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SWAPPED = frozenset({5, 6, 7, 8})
_FROM_THE_END = frozenset({3, 4, 7, 8})  # the first row shown is the last row (or column) stored
_MIRRORED = frozenset({2, 3, 6, 7})


def oriented_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    width, height = size
    return (height, width) if orientation in _SWAPPED else (width, height)


def box(size: tuple[int, int], orientation: int, top: int, bottom: int) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of the stored pixels that rows [top, bottom) of the upright image show."""
    width, height = size
    along = width if orientation in _SWAPPED else height
    if orientation in _FROM_THE_END:
        top, bottom = along - bottom, along - top
    return (top, 0, bottom, height) if orientation in _SWAPPED else (0, top, width, bottom)


def turn(strip: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """The stored pixels (h, w, planes) of one `box`, upright. A view."""
    if orientation in _SWAPPED:
        strip = strip.transpose(1, 0, 2)
    if orientation in _FROM_THE_END:
        strip = strip[::-1]
    if orientation in _MIRRORED:
        strip = strip[:, ::-1]
    return strip
