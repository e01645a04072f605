"""The streaming resampler against Pillow's, and against itself cut differently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.resample import RowResampler

Rows = NDArray[Any]


def picture(width: int, height: int, channels: int = 3, bits: int = 8) -> Rows:
    """Smooth and noisy parts, and saturated edges."""
    rng = np.random.default_rng(41)
    most = 2**bits - 1
    y, x = np.mgrid[:height, :width]
    smooth = (np.sin(x / 7)[..., None] + np.cos(y / 5)[..., None] + 2) / 4 * np.ones(channels)
    noise = rng.random((height, width, channels))
    mixed = np.where((x > width // 2)[..., None], noise, smooth)
    mixed[y < height // 4] = np.round(mixed[y < height // 4])
    image: Rows = (mixed * most + 0.5).astype(np.uint8 if bits == 8 else np.uint16)
    return image


def resample(
    image: Rows, width: int, height: int, cut: int = 7, box: tuple[float, float, float, float] | None = None
) -> Rows:
    resampler = RowResampler(
        image.shape[1], image.shape[0], width, height, image.shape[2], image.dtype.itemsize * 8, box
    )
    parts = [resampler.push(image[top : top + cut]) for top in range(0, len(image), cut)]
    return np.concatenate([*parts, resampler.finish()])


def by_pillow(
    image: Rows, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """In float, because in 8 bits Pillow clips between the passes, which loses overshoot at hard edges."""
    planes = [
        np.asarray(
            Image.fromarray(image[:, :, plane].astype(np.float32)).resize(
                (width, height), Image.Resampling.LANCZOS, box
            )
        )
        for plane in range(image.shape[2])
    ]
    clipped: NDArray[np.float32] = np.clip(np.stack(planes, axis=2), 0, np.iinfo(image.dtype).max)
    return clipped


SIZES = [(90, 60), (33, 27), (200, 130), (61, 41), (60, 40), (1, 1), (60, 3), (7, 40), (600, 5)]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", SIZES)
def test_it_agrees_with_pillows_lanczos(size: tuple[int, int], bits: int) -> None:
    image = picture(60, 40, bits=bits)
    ours = resample(image, *size)
    assert ours.shape == (size[1], size[0], 3)
    assert ours.dtype == image.dtype
    tolerance = 0.51 if bits == 8 else 1
    assert np.abs(ours - by_pillow(image, *size)).max() <= tolerance


def test_it_agrees_with_pillow_in_8_bits_within_1_where_nothing_overshoots() -> None:
    image = (picture(120, 90) // 2 + 64).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((77, 130), Image.Resampling.LANCZOS))
    assert np.abs(resample(image, 77, 130).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_is_resampled_each_by_itself(channels: int) -> None:
    image = picture(50, 30, channels)
    both = resample(image, 31, 47)
    for plane in range(channels):
        assert np.array_equal(both[:, :, [plane]], resample(image[:, :, [plane]], 31, 47))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 90),
    out_width=st.integers(1, 60),
    out_height=st.integers(1, 150),
    cut=st.integers(1, 100),
)
def test_how_the_rows_are_cut_makes_no_difference(
    width: int, height: int, out_width: int, out_height: int, cut: int
) -> None:
    image = picture(width, height, 1)
    whole = resample(image, out_width, out_height, cut=height)
    assert whole.shape == (out_height, out_width, 1)
    assert np.array_equal(resample(image, out_width, out_height, cut), whole)


def test_a_box_shows_a_part_with_fractions() -> None:
    image = picture(80, 60)
    box = (10.5, 7.25, 70.0, 59.0)
    assert np.abs(resample(image, 50, 45, box=box) - by_pillow(image, 50, 45, box)).max() <= 0.51


def test_a_flat_image_stays_flat_to_its_edges() -> None:
    image = np.full((23, 31, 3), 201, np.uint8)
    assert (resample(image, 100, 7) == 201).all()


def test_the_same_size_passes_rows_through_untouched() -> None:
    image = picture(20, 20)
    assert np.array_equal(resample(image, 20, 20), image)


@pytest.mark.parametrize("out", [(500, 20), (50, 2000), (25, 1000), (200, 8000)])
def test_what_it_holds_depends_on_the_kernel_and_not_on_the_height(out: tuple[int, int]) -> None:
    resampler = RowResampler(100, 4000, *out, 3, 8)
    image = picture(100, 4000)
    shrinking = max(1, 4000 / out[1])
    held = 0
    for top in range(0, 4000, 16):
        resampler.push(image[top : top + 16])
        held = max(held, resampler.state_bytes)
    resampler.finish()
    assert held <= (2 * 32 + 7 * shrinking + 16) * out[0] * 3 * 4


def test_rows_come_out_long_before_the_last_goes_in() -> None:
    resampler = RowResampler(64, 1000, 32, 500, 3, 8)
    assert len(resampler.push(picture(64, 100))) >= 30


def test_wrong_rows_are_refused() -> None:
    resampler = RowResampler(10, 10, 5, 5, 3, 8)
    with pytest.raises(ValueError, match="expected rows"):
        resampler.push(np.zeros((1, 11, 3), np.uint8))
    with pytest.raises(ValueError, match="expected rows"):
        resampler.push(np.zeros((1, 10, 3), np.uint16))
    with pytest.raises(ValueError, match="missing"):
        resampler.finish()
    with pytest.raises(ValueError, match="more than"):
        resampler.push(np.zeros((11, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="box"):
        RowResampler(10, 10, 5, 5, 3, 8, box=(0, 0, 11, 10))
