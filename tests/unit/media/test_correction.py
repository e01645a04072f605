"""Mean colours become those of the input, in every neighbourhood, however the rows are cut."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.media.correction import RADIUS, ColourCorrection


def corrected(source: NDArray, enlarged: NDArray, factor: int, cut: int, ahead: int = 1000) -> NDArray:
    height, width, planes = source.shape
    correction = ColourCorrection(width, height, factor, planes, enlarged.dtype.itemsize * 8)
    out, given = [], 0
    for top in range(0, len(enlarged), cut):
        needed = min(height, -(-(top + cut) // factor) + ahead)
        if needed > given:
            correction.keep(source[given:needed])
            given = needed
        out.append(correction.push(enlarged[top : top + cut]))
    return np.concatenate(out)


def case(bits: int, planes: int, factor: int = 4) -> tuple[NDArray, NDArray]:
    """A source, and an enlargement with a cast that differs from left to right."""
    rng = np.random.default_rng(41)
    top = 2**bits - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    source = rng.uniform(0.3, 0.7, (50, 43, planes))
    enlarged = source.repeat(factor, 0).repeat(factor, 1) + rng.normal(
        0, 0.02, (50 * factor, 43 * factor, planes)
    )
    enlarged += np.linspace(-0.04, 0.03, 43 * factor)[np.newaxis, :, np.newaxis]
    return (source * top).astype(dtype), (enlarged.clip(0, 1) * top).astype(dtype)


@pytest.mark.parametrize(("bits", "planes", "factor"), [(8, 3, 4), (8, 1, 2), (16, 3, 4), (8, 3, 16)])
def test_the_cast_goes(bits: int, planes: int, factor: int) -> None:
    source, enlarged = case(bits, planes, factor)
    out = corrected(source, enlarged, factor, 37)
    assert (out.shape, out.dtype) == (enlarged.shape, enlarged.dtype)
    small = out.reshape(50, factor, 43, factor, planes).mean((1, 3))
    limit = 0.5 * (257 if bits == 16 else 1)
    assert np.abs((small - source).mean((0, 1))).max() < limit / 4
    assert np.abs((small - source).mean(0)).max() < limit * 8  # column by column, noise and all
    before = enlarged.reshape(50, factor, 43, factor, planes).mean((1, 3))
    assert np.abs((before - source).mean(0)).max() > limit * 16


@pytest.mark.parametrize("cut", [1, 4, 7, 64, 1000])
@pytest.mark.parametrize("ahead", [0, 5, 1000])
def test_cutting_makes_no_difference(cut: int, ahead: int) -> None:
    source, enlarged = case(8, 3)
    assert np.array_equal(corrected(source, enlarged, 4, cut, ahead), corrected(source, enlarged, 4, 200))


def test_detail_stays_the_networks() -> None:
    source, enlarged = case(8, 3)
    out = corrected(source, enlarged, 4, 64).astype(int)
    change = out - enlarged
    assert np.abs(np.diff(change, axis=0)).max() <= 2
    assert np.abs(np.diff(change, axis=1)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_images_smaller_than_the_neighbourhood(size: tuple[int, int]) -> None:
    source = np.full((*size, 3), 100, np.uint8)
    enlarged = np.full((size[0] * 4, size[1] * 4, 3), 90, np.uint8)
    assert (corrected(source, enlarged, 4, 3) == 100).all()


def test_rows_come_as_soon_as_their_neighbourhood_is_there() -> None:
    source, enlarged = case(8, 3)
    correction = ColourCorrection(43, 50, 4, 3, 8)
    correction.keep(source)
    assert len(correction.push(enlarged[: (RADIUS + 1) * 4])) == 0
    assert len(correction.push(enlarged[(RADIUS + 1) * 4 : (RADIUS + 2) * 4])) == 4
