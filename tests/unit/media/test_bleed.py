"""Under transparent pixels lies the colour of what is visible near them, however the image is cut."""

from __future__ import annotations

import numpy as np
import pytest

from upscaled_server.media.codec.bleed import REACH, extend_colour


def disc(bits: int = 8) -> np.ndarray:
    """A red disc with a soft edge on transparent green."""
    top = 2**bits - 1
    y, x = np.mgrid[:90, :120]
    alpha = np.clip(30 - np.hypot(x - 60, y - 45) + 0.5, 0, 1) * top
    picture = np.zeros((90, 120, 4), np.uint8 if bits == 8 else np.uint16)
    picture[alpha > 0] = (top, 0, 0, 0)
    picture[alpha == 0] = (0, top, 0, 0)
    picture[..., 3] = alpha.round()
    return picture


@pytest.mark.parametrize("bits", [8, 16])
def test_visible_pixels_and_alpha_are_as_they_were(bits: int) -> None:
    picture = disc(bits)
    extended = extend_colour(picture)
    visible = picture[..., 3] >= (2**bits - 1) // 20
    assert np.array_equal(extended[visible], picture[visible])
    assert np.array_equal(extended[..., 3], picture[..., 3])


@pytest.mark.parametrize("bits", [8, 16])
def test_around_a_shape_lies_its_colour_and_far_away_what_was_there(bits: int) -> None:
    top = 2**bits - 1
    extended = extend_colour(disc(bits))
    y, x = np.mgrid[:90, :120]
    distance = np.hypot(x - 60, y - 45)
    assert (extended[distance < 30 + REACH - 1][:, :3] == (top, 0, 0)).all()
    assert (extended[distance > 31 + REACH * 1.5][:, :3] == (0, top, 0)).all()


def test_between_two_colours_lies_a_mixture() -> None:
    picture = np.zeros((20, 21, 4), np.uint8)
    picture[:, :5] = (255, 0, 0, 255)
    picture[:, 16:] = (0, 0, 255, 255)
    middle = extend_colour(picture)[10, 10]
    assert 90 < middle[0] < 165
    assert 90 < middle[2] < 165


def test_strips_that_bring_their_surroundings_give_the_same_as_the_whole() -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (200, 1500, 4), np.uint8)
    picture[..., 3] = np.where(rng.random((200, 1500)) < 0.97, 0, picture[..., 3])
    whole = extend_colour(picture)
    for top in range(0, 200, 37):
        first, last = max(0, top - REACH), min(200, top + 37 + REACH)
        part = extend_colour(picture[first:last])[top - first : top - first + 37]
        assert np.array_equal(part, whole[top : top + 37])


def test_wholly_opaque_and_wholly_transparent_rows_are_returned_as_they_are() -> None:
    opaque = np.full((4, 5, 4), 255, np.uint8)
    assert extend_colour(opaque) is opaque
    invisible = np.zeros((4, 5, 2), np.uint16)
    assert extend_colour(invisible) is invisible
