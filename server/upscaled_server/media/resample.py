"""Resampling of a stream of rows to another size: separable, antialiased Lanczos with three lobes.

The weights are those of Pillow's LANCZOS (Pillow, src/libImaging/Resample.c; Turkowski, "Filters for common
resampling tasks", 1990): a pixel's centre is at half its index, the kernel is stretched by the factor when
shrinking, and at the edges the weights of the pixels that exist are normalised to 1. Sums are float32 and
rounded once, at the end (Pillow rounds between the two passes), so 8-bit results agree with Pillow's within
1.

Both passes are matrix products: outputs are taken in blocks, and the weights of a block form a small dense
matrix over the few inputs it needs, which costs more multiplications than the kernel has taps, and runs at
the speed of BLAS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.generic]
_Floats = NDArray[np.float32]

LOBES = 3
_BLOCK = 32
"""Inputs that the outputs of one matrix product are spread over, and outputs per product when enlarging."""
_PASS_BYTES = 1 << 20
"""Float bytes of input rows converted at a time, so that they stay in the cache."""


class RowResampler:
    """Takes the rows of an image in order, gives the rows of the resampled one in order.

    Rows are (n, width, channels), uint8 or (bits = 16) uint16; alpha counts as a channel and is resampled
    like the others, so straight alpha should be resampled apart or colours premultiplied. `box` is the part
    of the input to show, (left, top, right, bottom) in input pixels, fractions allowed; its surroundings
    still feed the kernel.

    Memory: about 32 + 6 * max(1, shrinking factor) rows of out_width float32 pixels, besides what `push` is
    given and returns. Not for concurrent use; NumPy releases the GIL in the heavy parts.
    """

    def __init__(
        self,
        in_width: int,
        in_height: int,
        out_width: int,
        out_height: int,
        channels: int,
        bits: int,
        box: tuple[float, float, float, float] | None = None,
    ) -> None:
        if min(in_width, in_height, out_width, out_height, channels) < 1 or bits not in (8, 16):
            raise ValueError("sizes and channels must be at least 1, bits 8 or 16")
        left, top, right, bottom = box or (0.0, 0.0, float(in_width), float(in_height))
        if not (0 <= left < right <= in_width and 0 <= top < bottom <= in_height):
            raise ValueError(f"box {box} is not within {in_width}x{in_height}")
        self._shape = (in_width, channels)
        self._dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self._most = np.float32(2**bits - 1)
        self._out_shape = (out_height, out_width, channels)
        self._columns = list(_Axis(in_width, out_width, left, right).blocks())
        self._lines = _Axis(in_height, out_height, top, bottom).blocks()
        self._line = next(self._lines, None)  # the block of output rows that comes next
        self._in_height = in_height
        self._rows_in = 0
        self._window: _Floats = np.empty((0, channels, out_width), np.float32)
        self._window_top = 0  # input row of the window's first
        self._is_identity = (in_width, in_height) == (out_width, out_height) and box in (
            None,
            (0, 0, in_width, in_height),
        )

    @property
    def state_bytes(self) -> int:
        """What is held between calls."""
        return self._window.nbytes

    def push(self, rows: Rows) -> Rows:
        """The next input rows in, the output rows that became ready out: (0 or more, out_width, channels).

        Raises ValueError on another shape or dtype, or more rows than the image has.
        """
        if rows.ndim != 3 or rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"expected rows of {self._shape} {self._dtype}, got {rows.shape} {rows.dtype}")
        if self._rows_in + len(rows) > self._in_height:
            raise ValueError(f"more than {self._in_height} rows")
        if self._is_identity:
            self._rows_in += len(rows)
            return rows
        out = []
        step = max(1, _PASS_BYTES // (4 * self._shape[0] * self._shape[1]))
        for top in range(0, len(rows), step):
            self._take(rows[top : top + step])
            out.extend(self._ready())
        return self._joined(out)

    def finish(self) -> Rows:
        """The output rows that are left: none, since the last input row completes the last output row.

        Raises ValueError if input rows are missing.
        """
        if self._rows_in < self._in_height:
            raise ValueError(f"{self._in_height - self._rows_in} rows are missing")
        return self._joined([])

    def _take(self, rows: Rows) -> None:
        """The horizontal pass over `rows`, to the end of the window; rows above what is needed are
        dropped."""
        needed_from = self._in_height if self._line is None else self._line.low
        skip = min(max(needed_from - self._rows_in, 0), len(rows))
        self._rows_in += len(rows)
        rows = rows[skip:]
        planar = np.ascontiguousarray(rows.transpose(0, 2, 1), dtype=np.float32)
        wide = np.empty((len(rows), self._shape[1], self._out_shape[1]), np.float32)
        for block in self._columns:
            np.matmul(
                planar[:, :, block.low : block.high],
                block.weights.T,
                out=wide[:, :, block.first : block.last],
            )
        self._drop_rows_above(needed_from)
        if len(self._window) == 0:
            self._window, self._window_top = wide, self._rows_in - len(rows)
        else:
            self._window = np.concatenate([self._window, wide])

    def _ready(self) -> list[Rows]:
        out = []
        while self._line is not None and self._line.high <= self._rows_in:
            block = self._line
            seen = self._window[block.low - self._window_top : block.high - self._window_top]
            sums = np.matmul(block.weights, seen.reshape(len(seen), -1))
            out.append(self._rounded(sums.reshape(-1, *self._window.shape[1:])))
            self._line = next(self._lines, None)
        return out

    def _drop_rows_above(self, row: int) -> None:
        gone = min(max(row - self._window_top, 0), len(self._window))
        self._window = self._window[gone:]
        self._window_top += gone

    def _rounded(self, sums: _Floats) -> Rows:
        sums += np.float32(0.5)
        np.clip(sums, 0, self._most, out=sums)
        return np.ascontiguousarray(sums.transpose(0, 2, 1).astype(self._dtype))

    def _joined(self, parts: list[Rows]) -> Rows:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, *self._out_shape[1:]), self._dtype)


@dataclass(frozen=True, slots=True)
class _Block:
    """Outputs [first, last) are `weights` (last - first, high - low) times inputs [low, high)."""

    first: int
    last: int
    low: int
    high: int
    weights: _Floats


@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction: inputs [start, end) of `in_size` become `out_size` outputs."""

    in_size: int
    out_size: int
    start: float
    end: float

    def blocks(self) -> Iterator[_Block]:
        step = (self.end - self.start) / self.out_size
        outputs = max(1, round(_BLOCK / max(step, 1.0)))
        for first in range(0, self.out_size, outputs):
            yield self._block(first, min(first + outputs, self.out_size), step)

    def _block(self, first: int, last: int, step: float) -> _Block:
        stretch = max(step, 1.0)
        support = LOBES * stretch
        centre = self.start + (np.arange(first, last) + 0.5) * step
        low = np.maximum((centre - support + 0.5).astype(np.int64), 0)
        high = np.minimum((centre + support + 0.5).astype(np.int64), self.in_size)
        inputs = np.arange(low[0], high[-1])
        weights = lanczos((inputs - centre[:, np.newaxis] + 0.5) / stretch)
        weights *= (inputs >= low[:, np.newaxis]) & (inputs < high[:, np.newaxis])
        weights /= weights.sum(axis=1, keepdims=True)
        return _Block(first, last, int(low[0]), int(high[-1]), weights.astype(np.float32))


def lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """sinc(x) * sinc(x / 3) for |x| < 3, else 0."""
    inside = np.abs(x) < LOBES
    value: NDArray[np.float64] = np.where(inside, np.sinc(x) * np.sinc(x / LOBES), 0.0)
    return value
