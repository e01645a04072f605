"""The arithmetic of the result's size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import InvalidField, LimitExceeded
from upscaled_server.media.size import Fit, SizeRequest, output_size

sides = st.integers(1, 20_000)


def size(in_width: int, in_height: int, /, factor: float = 4, **request: object) -> tuple[int, int]:
    out = output_size(in_width, in_height, factor=factor, request=SizeRequest(**request))  # type: ignore[arg-type]
    return out.width, out.height


def test_nothing_asked_means_the_models_own_factor() -> None:
    assert size(448, 640) == (1792, 2560)


def test_a_scale_rounds_each_side_by_itself_halves_upwards() -> None:
    assert size(3, 5, scale=1.5) == (5, 8)
    assert size(3, 5, scale=2.5) == (8, 13)
    assert size(1, 1, scale=0.01) == (1, 1)


def test_a_missing_side_follows_the_aspect_ratio() -> None:
    assert size(640, 480, width=2048) == (2048, 1536)
    assert size(640, 480, height=1001) == (1335, 1001)
    assert size(10_000, 1, width=10) == (10, 1)


def test_both_sides_contain_cover_or_stretch() -> None:
    assert size(640, 480, width=1000, height=1000) == (1000, 750)
    assert size(480, 640, width=1000, height=1000) == (750, 1000)
    assert size(640, 480, width=1000, height=1000, fit=Fit.STRETCH) == (1000, 1000)
    out = output_size(640, 480, factor=4, request=SizeRequest(None, 1000, 1000, Fit.COVER))
    assert (out.width, out.height) == (1000, 1000)
    assert out.box == (80, 0, 560, 480)


@given(sides, sides, sides, sides)
def test_contain_never_leaves_the_frame_and_touches_it(width: int, height: int, wide: int, high: int) -> None:
    out = output_size(width, height, factor=4, request=SizeRequest(None, wide, high), max_pixels=1 << 60)
    assert 1 <= out.width <= wide
    assert 1 <= out.height <= high
    assert out.width == wide or out.height == high


@given(sides, sides, sides, sides)
def test_cover_shows_a_part_within_the_image_of_the_right_shape(
    width: int, height: int, wide: int, high: int
) -> None:
    out = output_size(
        width, height, factor=4, request=SizeRequest(None, wide, high, Fit.COVER), max_pixels=1 << 60
    )
    left, top, right, bottom = out.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert math.isclose((right - left) * high, (bottom - top) * wide, rel_tol=1e-6)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, -math.inf])
def test_a_scale_that_is_no_positive_number_names_its_field(scale: float) -> None:
    with pytest.raises(InvalidField) as caught:
        size(10, 10, scale=scale)
    assert caught.value.field == "options.scale"


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**63])
def test_a_side_out_of_range_names_its_field(side: str, value: int) -> None:
    with pytest.raises(InvalidField) as caught:
        size(10, 10, **{side: value})
    assert caught.value.field == f"options.{side}"


def test_scale_together_with_a_side_is_refused() -> None:
    with pytest.raises(InvalidField, match="together"):
        size(10, 10, scale=2.0, width=20)


@pytest.mark.parametrize("scale", [1e300, 1e9, 21.0])
def test_too_large_a_result_says_the_limit_in_megapixels(scale: float) -> None:
    with pytest.raises(LimitExceeded) as caught:
        size(1000, 1000, scale=scale)
    assert caught.value.field == "options.scale"
    assert caught.value.numbers["limit"] == 400


def test_too_large_a_side_names_the_field_that_led_there() -> None:
    with pytest.raises(LimitExceeded) as caught:
        size(1, 1000, height=2**31 - 1)
    assert caught.value.field == "options.height"
