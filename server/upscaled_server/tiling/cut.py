"""Cutting: where each piece takes its input, and which part of its result is wanted. Integers only.

Both axes are cut alike and independently, so a piece is a pair of spans. All positions are input pixels;
results are `scale` times as far along and as long.

    image     0 ........................................................ size
    wanted            start |==================| end
    source     first |------|==================|------| last      halo to each side, clipped at the image's
    borders computed   first |------|==================|------|~~|        padded up to the multiple that the
    network needs
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a piece: it reads [first, last), padded by `pad`, and delivers [start, end)."""

    start: int
    end: int
    first: int
    last: int
    pad: int

    @property
    def wanted(self) -> int:
        return self.end - self.start

    @property
    def computed(self) -> int:
        """Pixels that go into the network along this axis, padding included."""
        return self.last - self.first + self.pad

    @property
    def inside(self) -> int:
        """Where the wanted part begins within what is read."""
        return self.start - self.first


@dataclass(frozen=True, slots=True)
class Piece:
    """One unit of cutting: `across` the columns and `down` the rows."""

    across: Span
    down: Span

    @property
    def computed_pixels(self) -> int:
        return self.across.computed * self.down.computed

    def halves(
        self, halo: int, multiple: int, width: int, height: int, min_size: int = 1
    ) -> tuple[Piece, Piece] | None:
        """The same wanted part as two pieces, cut across its longer side; None if it cannot be cut further.

        For a device that ran out of memory. What the halves read lies within what this piece read.
        """
        if max(self.across.wanted, self.down.wanted) < 2 * multiple:
            return None
        if self.across.wanted > self.down.wanted:
            left, right = _halve(self.across, halo, multiple, width, min_size)
            return Piece(left, self.down), Piece(right, self.down)
        top, bottom = _halve(self.down, halo, multiple, height, min_size)
        return Piece(self.across, top), Piece(self.across, bottom)


def cut_axis(size: int, length: int, halo: int, multiple: int = 1, min_size: int = 1) -> tuple[Span, ...]:
    """The spans of `length` (the last may be shorter) that together deliver [0, size) exactly once.

    `length` must be a multiple of `multiple` unless one span covers all: what a span reads begins at a
    multiple, so that a network which looks at blocks of pixels sees the same blocks as in the whole image.
    """
    if length < 1 or size < 1:
        raise ValueError(f"cannot cut {size} pixels into pieces of {length}")
    if length < size and length % multiple:
        raise ValueError(f"pieces of {length} pixels do not begin at multiples of {multiple}")
    return tuple(
        _span(start, min(start + length, size), size, halo, multiple, min_size)
        for start in range(0, size, length)
    )


@dataclass(frozen=True, slots=True)
class AxisSums:
    """What a planner asks of a cut: how many pixels all spans compute together, and the longest one."""

    computed: int
    longest: int


@lru_cache(maxsize=4096)
def measure_axis(size: int, length: int, halo: int, multiple: int = 1, min_size: int = 1) -> AxisSums:
    """The sums over `cut_axis`, without going through the spans in the middle, which are all alike."""
    count = math.ceil(size / length)
    near = math.ceil((halo + multiple) / length) + 2
    if count <= 2 * near + 1:
        computed = [span.computed for span in cut_axis(size, length, halo, multiple, min_size)]
        return AxisSums(sum(computed), max(computed))
    starts = [*range(near), *range(count - near, count)]
    ends = [
        _span(i * length, min((i + 1) * length, size), size, halo, multiple, min_size).computed
        for i in starts
    ]
    middle = _span(near * length, (near + 1) * length, size, halo, multiple, min_size).computed
    return AxisSums(sum(ends) + middle * (count - 2 * near), max(*ends, middle))


def rows_of_pieces(across: tuple[Span, ...], down: tuple[Span, ...]) -> Iterator[tuple[Piece, ...]]:
    """Pieces from top to bottom; each row from left to right."""
    for span in down:
        yield tuple(Piece(column, span) for column in across)


def _span(start: int, end: int, size: int, halo: int, multiple: int, min_size: int) -> Span:
    first = max(0, (start - halo) // multiple * multiple)
    last = min(size, math.ceil((end + halo) / multiple) * multiple)
    computed = max(math.ceil((last - first) / multiple) * multiple, min_size)
    return Span(start=start, end=end, first=first, last=last, pad=computed - (last - first))


def _halve(span: Span, halo: int, multiple: int, size: int, min_size: int) -> tuple[Span, Span]:
    middle = span.start + max(multiple, span.wanted // 2 // multiple * multiple)
    return (
        _span(span.start, middle, size, halo, multiple, min_size),
        _span(middle, span.end, size, halo, multiple, min_size),
    )
