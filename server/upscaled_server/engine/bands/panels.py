"""Rows of blobs in panels: some columns each, few enough that a convolution of one stays in the caches.

A panel has one more column to each side: its neighbours' outermost ones, and zero ones at the image's
borders. Channels are interleaved as ncnn packs them, `pack` of them at a time; these groups lie one behind
the other, so several blobs in one stack are their concatenation, and some rows of its first groups are an
input for ncnn without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# A Winograd convolution computes 4 columns together. Panels of one width at every scale make it easy to
# enlarge: each has its pixels from one half of a smaller one.
_COLUMNS_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Columns:
    """How the `width` columns of a blob are divided: panels of `panel` columns, perhaps fewer in the last."""

    width: int
    panel: int

    @classmethod
    def of_panels(cls, width: int, trunk: int, about: int) -> Columns:
        """Panels of about this many columns that suit blobs of the width `trunk`."""
        count = max(1, round(trunk / about))
        return cls(width, math.ceil(trunk / count / _COLUMNS_TOGETHER) * _COLUMNS_TOGETHER)

    @property
    def count(self) -> int:
        return math.ceil(self.width / self.panel)

    def within(self, index: int) -> int:
        """How many columns of a panel are the image's."""
        return min(self.panel, self.width - index * self.panel)


@dataclass(frozen=True, slots=True)
class Patch:
    """What a convolution gave: some rows of one panel, from the blob's row `row` on.

    `values`: (groups, rows, panel * pack).
    """

    panel: int
    row: int
    values: Floats


class Stack:
    """Room for the rows of one blob or of several: (panels, groups, rows, (panel + 2) * pack)."""

    def __init__(self, memory: Floats, shape: tuple[int, int, int, int], columns: Columns, pack: int) -> None:
        """`memory`: values in any state, as many as the shape has."""
        self.values = memory.reshape(shape)
        self.columns = columns
        self.pack = pack
        self.values[0, :, :, :pack] = 0
        self.values[-1, :, :, (columns.within(columns.count - 1) + 1) * pack :] = 0

    @staticmethod
    def shape(columns: Columns, channels: int, rows: int, pack: int) -> tuple[int, int, int, int]:
        # Even, so that ncnn finds every channel at a multiple of 16 bytes.
        return columns.count, channels // pack, rows + rows % 2, (columns.panel + 2) * pack


class BlobRows:
    """A blob's rows in a stack, by the blob's own numbers: `first` is the stack's first row."""

    def __init__(self, stack: Stack, group: int, groups: int, first: int) -> None:
        self._stack = stack
        self._group = group
        self._values = stack.values[:, group : group + groups]
        self._first = first

    def put(self, patches: Iterable[Patch]) -> None:
        """Write patches; `share` must follow."""
        pack, columns = self._stack.pack, self._stack.columns
        for patch in patches:
            end = columns.within(patch.panel) * pack
            start = patch.row - self._first
            rows = self._values[patch.panel, :, start : start + patch.values.shape[1]]
            rows[:, :, pack : pack + end] = patch.values[:, :, :end]

    def put_planes(self, row: int, planes: Floats) -> None:
        """Write (channels, rows, width); for blobs whose channels are not interleaved."""
        _, count, width = planes.shape
        panel, start = self._stack.columns.panel, row - self._first
        for index in range(self._stack.columns.count):
            left, right = max(0, index * panel - 1), min(width, (index + 1) * panel + 1)
            at = left - index * panel + 1
            rows = self._values[index, :, start : start + count]
            rows[:, :, at : at + right - left] = planes[:, :, left:right]

    def put_enlarged(self, source: BlobRows, row: int, first: int, rows: int) -> None:
        """Write these rows of another blob, every pixel as 2 x 2, from row `row` on; `share` must follow."""
        pack, columns, half = self._stack.pack, self._stack.columns, self._stack.columns.panel // 2
        groups, start, taken = self._values.shape[1], row - self._first, first - source._first
        for index in range(columns.count):
            left = (1 + index % 2 * half) * pack
            small = source._values[index // 2, :, taken : taken + rows, left : left + half * pack]
            large = self._values[index, :, start : start + 2 * rows, pack:-pack]
            large.reshape(groups, rows, 2, half, 2, pack)[...] = small.reshape(groups, rows, 1, half, 1, pack)
        end = (columns.within(columns.count - 1) + 1) * pack
        self._values[-1, :, start : start + 2 * rows, end:] = 0

    def share(self, row: int, rows: int) -> None:
        """Give every panel its neighbours' outermost columns of these rows."""
        pack, start = self._stack.pack, row - self._first
        part = self._values[:, :, start : start + rows]
        part[:-1, :, :, -pack:] = part[1:, :, :, pack : 2 * pack]
        part[1:, :, :, :pack] = part[:-1, :, :, -2 * pack : -pack]

    def zero(self, row: int, rows: int) -> None:
        self._values[:, :, row - self._first : row - self._first + rows] = 0

    def copy(self, row: int, rows: int) -> Floats:
        """Rows to be carried, for `load`."""
        return self._values[:, :, row - self._first : row - self._first + rows].copy()

    def load(self, row: int, rows: Floats) -> None:
        start = row - self._first
        self._values[:, :, start : start + rows.shape[2]] = rows

    def interior(self, panel: int, row: int, rows: int) -> Floats:
        """A view of one panel's rows without its neighbours' columns: as `Patch.values`."""
        pack, start = self._stack.pack, row - self._first
        part: Floats = self._values[panel, :, start : start + rows, pack:-pack]
        return part

    def as_input(self, panel: int, row: int, rows: int, groups: int) -> Any:
        """A Mat of one panel's rows, of this blob and of those behind it in the stack: `groups` altogether.

        It does not own its memory.
        """
        import ncnn

        values, pack = self._stack.values, self._stack.pack
        line = values.shape[3]
        mat = ncnn.Mat(values[panel, self._group :].reshape(-1)[(row - self._first) * line :])
        mat.dims, mat.w, mat.h, mat.d, mat.c = 3, line // pack, rows, 1, groups
        mat.elempack, mat.elemsize = pack, 4 * pack
        mat.cstep = values.shape[2] * (line // pack)
        return mat
