"""Rows of images that go side by side."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.pipeline.abreast import Abreast


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=40))
def test_every_image_gives_its_rows_in_order_and_as_many_as_the_others(
    portions: list[tuple[int, int]],
) -> None:
    abreast = Abreast(3)
    pushed, popped = [0, 0, 0], 0
    for image, count in portions:
        first = pushed[image]
        rows = np.arange(first, first + count)[:, None, None] + 1000 * image
        abreast.push(image, rows)
        pushed[image] += count
        strips = abreast.pop()
        if strips is not None:
            assert len({strip.shape for strip in strips}) == 1
            for number, strip in enumerate(strips):
                expected = np.arange(popped, popped + strip.shape[0]) + 1000 * number
                np.testing.assert_array_equal(strip[:, 0, 0], expected)
            popped += strips[0].shape[0]
        assert popped == min(pushed)
