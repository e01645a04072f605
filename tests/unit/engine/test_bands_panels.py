"""Rows in panels: every column is where a convolution looks for it, and beside the image there are zeros."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upscaled_server.engine.bands.panels import BlobRows, Columns, Patch, Stack

PACK, CHANNELS, ROWS = 4, 8, 6


def _rows(columns: Columns) -> tuple[Stack, BlobRows]:
    shape = Stack.shape(columns, CHANNELS, ROWS, PACK)
    # Memory comes as others left it.
    stack = Stack(np.full(int(np.prod(shape)), np.nan, np.float32), shape, columns, PACK)
    return stack, BlobRows(stack, 0, CHANNELS // PACK, first=10)


def _patches(columns: Columns, image: NDArray[np.float32]) -> list[Patch]:
    """(groups, rows, width, pack) as a convolution gives it, with rubbish beyond the image."""
    groups, rows, width, pack = image.shape
    padded = np.full((groups, rows, columns.count * columns.panel, pack), 7, np.float32)
    padded[:, :, :width] = image
    size = columns.panel
    return [
        Patch(index, 10, padded[:, :, index * size : (index + 1) * size].reshape(groups, rows, -1))
        for index in range(columns.count)
    ]


@given(st.integers(1, 700), st.sampled_from([1, 2, 4]), st.integers(4, 200))
def test_panels_cover_every_column_once(trunk: int, factor: int, about: int) -> None:
    columns = Columns.of_panels(trunk * factor, trunk, about)
    assert sum(columns.within(index) for index in range(columns.count)) == trunk * factor
    assert all(columns.within(index) >= 1 for index in range(columns.count))
    assert columns.panel % 4 == 0
    assert columns.panel <= max(1.5 * about + 4, 4)


@given(st.integers(1, 60), st.sampled_from([4, 8, 12]))
def test_a_panel_sees_its_neighbours_and_zeros_beside_the_image(width: int, panel: int) -> None:
    columns = Columns(width, panel)
    stack, rows = _rows(columns)
    image = np.random.default_rng(width).random((CHANNELS // PACK, ROWS, width, PACK), np.float32)
    rows.put(_patches(columns, image))
    rows.share(10, ROWS)
    framed = np.pad(image, ((0, 0), (0, 0), (1, 1), (0, 0)))
    for index in range(columns.count):
        first, seen = index * panel, columns.within(index) + 2
        found = stack.values[index, :, :ROWS].reshape(CHANNELS // PACK, ROWS, panel + 2, PACK)
        np.testing.assert_array_equal(found[:, :, :seen], framed[:, :, first : first + seen])


@given(st.integers(1, 40), st.sampled_from([4, 8]))
def test_enlarging_makes_four_of_every_pixel(width: int, panel: int) -> None:
    small_columns, large_columns = Columns(width, panel), Columns(2 * width, panel)
    _, small = _rows(small_columns)
    stack, large = _rows(large_columns)
    image = np.random.default_rng(width).random((CHANNELS // PACK, 3, width, PACK), np.float32)
    small.put(_patches(small_columns, image))
    large.put_enlarged(small, 10, 10, 3)
    large.share(10, 6)
    framed = np.pad(image.repeat(2, 1).repeat(2, 2), ((0, 0), (0, 0), (1, 1), (0, 0)))
    for index in range(large_columns.count):
        first, seen = index * panel, large_columns.within(index) + 2
        found = stack.values[index].reshape(CHANNELS // PACK, ROWS, panel + 2, PACK)
        np.testing.assert_array_equal(found[:, :, :seen], framed[:, :, first : first + seen])


@pytest.mark.parametrize("panel", [4, 8])
def test_rows_that_were_carried_come_back_as_they_were(panel: int) -> None:
    columns = Columns(21, panel)
    _, rows = _rows(columns)
    image = np.random.default_rng(0).random((CHANNELS // PACK, ROWS, 21, PACK), np.float32)
    rows.put(_patches(columns, image))
    rows.share(10, ROWS)
    carried = rows.copy(14, 2)
    stack, others = _rows(columns)
    others.load(10, carried)
    others.zero(12, 4)
    np.testing.assert_array_equal(stack.values[:, :, :2], carried)
    assert not stack.values[:, :, 2:].any()
