"""Keeps the colours of the input where a network shifts them.

Networks move the mean of what they enlarge, by up to 6 of 255: they learned to restore, not to keep. What
differs between the input and the reduced output is blurred, so that it holds colours and no detail, and
added to the output. The mean over any neighbourhood becomes that of the input; edges and texture stay the
network's.
"""

from __future__ import annotations

import queue
from collections import deque

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.planes import Rows, to_bits
from upscaled_server.media.row_buffer import RowBuffer

_Floats = NDArray[np.float32]

RADIUS = 8
"""Input pixels: half the side of the square that colours are compared over."""


class ColourCorrection:
    """Takes the network's rows in order and gives them corrected, in order, `RADIUS` + 1 input rows behind.

    Rows are (n, width * factor, planes), uint8 or (bits = 16) uint16. Holds about 2 * RADIUS + 3 input rows
    and `factor` times as many of the network's. `keep` may be called in another thread than `push`.
    """

    def __init__(self, width: int, height: int, factor: int, planes: int, bits: int) -> None:
        self._width = width
        self._height = height
        self._factor = factor
        self._bits = bits
        self._dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self._planes = planes
        at = np.clip((np.arange(width * factor) + 0.5) / factor - 0.5, 0, width - 1)
        self._left = np.floor(at).astype(np.int64)
        self._share = (at - self._left).astype(np.float32)[:, np.newaxis]
        self._kept: queue.SimpleQueue[Rows] = queue.SimpleQueue()
        self._input = RowBuffer()
        self._waiting = RowBuffer()  # of the network, compared with the input, not corrected yet
        self._unread = RowBuffer()  # of the network, less than one row of the input
        self._blurred: deque[_Floats] = deque()  # differences, blurred along the row
        self._first = 0  # input row of the first of them
        self._compared = 0
        self._corrected = 0

    def keep(self, rows: Rows) -> None:
        """Rows of the input, (n, width, planes), in order."""
        self._kept.put(rows.copy())

    def push(self, rows: Rows) -> Rows:
        """The corrected rows that become ready: (0 or more, width * factor, planes)."""
        self._unread.append(rows)
        count = self._unread.rows // self._factor
        if count:
            self._compare(self._unread.take(count * self._factor), count)
        ready = self._compared if self._compared == self._height else self._compared - RADIUS - 1
        parts = [self._correct(row) for row in range(self._corrected, ready)]
        self._corrected = max(self._corrected, ready)
        return np.concatenate(parts) if parts else rows[:0]

    def _compare(self, enlarged: Rows, count: int) -> None:
        while self._input.rows < count:
            self._input.append(to_bits(self._kept.get_nowait(), self._bits))
        source = self._input.take(count).astype(np.float32)
        blocks = enlarged.reshape(count, self._factor, self._width, self._factor, self._planes)
        differences = source - blocks.mean((1, 3), dtype=np.float32)
        self._blurred.extend(_blurred_along(differences))
        self._waiting.append(enlarged)
        self._compared += count

    def _correct(self, row: int) -> Rows:
        """The network's rows that show input row `row`, with differences interpolated between row centres."""
        above, here, below = (self._neighbourhood(row + step) for step in (-1, 0, 1))
        out = self._waiting.take(self._factor).astype(np.float32)
        for index in range(self._factor):
            offset = (index + 0.5) / self._factor - 0.5
            other = above if offset < 0 else below
            out[index] += self._across(here * (1 - abs(offset)) + other * abs(offset))
        while self._first < row - RADIUS - 1:
            self._blurred.popleft()
            self._first += 1
        out += 0.5
        return np.clip(out, 0, 2**self._bits - 1, out=out).astype(self._dtype)

    def _neighbourhood(self, row: int) -> _Floats:
        row = min(max(row, 0), self._height - 1)
        low, high = max(0, row - RADIUS), min(self._height, row + RADIUS + 1)
        seen = [self._blurred[at - self._first] for at in range(low, high)]
        mean: _Floats = np.mean(seen, axis=0, dtype=np.float32)
        return mean

    def _across(self, differences: _Floats) -> _Floats:
        """(width, planes) interpolated to (width * factor, planes)."""
        slopes = np.diff(differences, axis=0, append=differences[-1:])
        out: _Floats = slopes[self._left]
        out *= self._share
        out += differences[self._left]
        return out


def _blurred_along(rows: _Floats) -> _Floats:
    """Means over 2 * RADIUS + 1 neighbours along each row, fewer at its ends."""
    width = rows.shape[1]
    sums = np.zeros((rows.shape[0], width + 1, rows.shape[2]), np.float64)
    np.cumsum(rows, axis=1, out=sums[:, 1:])
    low = np.maximum(np.arange(width) - RADIUS, 0)
    high = np.minimum(np.arange(width) + RADIUS + 1, width)
    counts = (high - low)[np.newaxis, :, np.newaxis]
    means: _Floats = ((sums[:, high] - sums[:, low]) / counts).astype(np.float32)
    return means
