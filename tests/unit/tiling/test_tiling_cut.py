"""Cutting: pieces cover the image exactly once, and read no more than they may."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.tiling.cut import Piece, cut_axis, measure_axis, rows_of_pieces

SIZES = st.integers(1, 3000)
HALOS = st.integers(0, 140)
MULTIPLES = st.sampled_from([1, 2, 4])


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    size, multiple = draw(SIZES), draw(MULTIPLES)
    length = draw(st.integers(1, 800)) * multiple
    return size, length, draw(HALOS), multiple, draw(st.sampled_from([1, 1, 16]))


@given(cuts())
def test_spans_deliver_every_pixel_exactly_once(cut: tuple[int, int, int, int, int]) -> None:
    spans = cut_axis(*cut)
    assert spans[0].start == 0
    assert spans[-1].end == cut[0]
    assert all(left.end == right.start for left, right in pairwise(spans))
    assert all(span.wanted > 0 for span in spans)


@given(cuts())
def test_spans_read_their_halo_clipped_at_the_borders(cut: tuple[int, int, int, int, int]) -> None:
    size, _, halo, multiple, min_size = cut
    for span in cut_axis(*cut):
        assert span.first == 0 or span.start - span.first >= halo
        assert span.last == size or span.last - span.end >= halo
        assert 0 <= span.first <= span.start
        assert span.end <= span.last <= size
        assert span.start - span.first < halo + multiple
        assert span.last - span.end < halo + multiple
        assert span.first % multiple == 0
        assert span.computed >= min_size
        if min_size == 1:
            assert span.computed % multiple == 0
            assert span.pad < multiple


@given(cuts())
def test_only_what_ends_at_the_border_is_padded(cut: tuple[int, int, int, int, int]) -> None:
    size, _, _, _, min_size = cut
    for span in cut_axis(*cut):
        assert span.pad == 0 or span.last == size or span.computed == min_size


@given(cuts())
def test_the_sums_equal_those_of_the_spans(cut: tuple[int, int, int, int, int]) -> None:
    spans = cut_axis(*cut)
    sums = measure_axis(*cut)
    assert sums.computed == sum(span.computed for span in spans)
    assert sums.longest == max(span.computed for span in spans)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_pieces_tile_the_image(width: int, height: int, across: int, down: int, halo: int) -> None:
    covered = [[0] * width for _ in range(height)]
    for row in rows_of_pieces(cut_axis(width, across, halo), cut_axis(height, down, halo)):
        for piece in row:
            for y in range(piece.down.start, piece.down.end):
                for x in range(piece.across.start, piece.across.end):
                    covered[y][x] += 1
    assert all(count == 1 for line in covered for count in line)


@given(cuts(), cuts())
def test_halves_deliver_the_same_and_read_no_more(
    horizontal: tuple[int, int, int, int, int], vertical: tuple[int, int, int, int, int]
) -> None:
    width, across, halo, multiple, _ = horizontal
    height, down = vertical[0], max(1, vertical[1] // multiple) * multiple
    piece = Piece(cut_axis(width, across, halo, multiple)[-1], cut_axis(height, down, halo, multiple)[-1])
    halves = piece.halves(halo, multiple, width, height)
    if halves is None:
        assert max(piece.across.wanted, piece.down.wanted) < 2 * multiple
        return
    first, second = halves
    assert (
        sum(half.across.wanted * half.down.wanted for half in halves)
        == piece.across.wanted * piece.down.wanted
    )
    assert (first.across.start, first.down.start) == (piece.across.start, piece.down.start)
    assert (second.across.end, second.down.end) == (piece.across.end, piece.down.end)
    for half in halves:
        assert half.across.first >= piece.across.first
        assert half.across.last <= piece.across.last
        assert half.down.first >= piece.down.first
        assert half.down.last <= piece.down.last


def test_a_cut_that_would_shift_the_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        cut_axis(100, 33, 8, multiple=2)
