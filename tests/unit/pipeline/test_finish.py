"""Rows between network and encoder: sizes, grey, alpha, whatever strips they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.size import OutputSize, SizeRequest, output_size
from upscaled_server.pipeline.finish import AlphaTrack, Finisher, Resizer

Rows = NDArray[Any]


def _finisher(info: tuple[int, int, int], size: OutputSize, factor: int, *, alpha: bool) -> Finisher:
    width, height, channels = info
    track = AlphaTrack(width, height, size, 8) if alpha else None
    resizer = Resizer(width * factor, height * factor, factor, size, channels, 8)
    return Finisher(resizer, track, flatten=False)


def _enlarged(rows: Rows, factor: int) -> Rows:
    return rows.repeat(factor, 0).repeat(factor, 1)


def _run(finisher: Finisher, rows: Rows, factor: int, strips: list[int], *, feed_ahead: int) -> Rows:
    """Feed `rows` as a network with `feed_ahead` rows of context would: colour comes out later than alpha
    went in."""
    colour, out, fed, given = [], [], 0, 0
    for strip in strips:
        end = min(rows.shape[0], given + strip + feed_ahead)
        if end > fed:
            colour.append(finisher.prepare(rows[fed:end])[0])
            fed = end
        whole = np.concatenate(colour)
        last = min(rows.shape[0], given + strip)
        planes = 1 if rows.shape[2] == 1 else 3
        done = finisher.push((_enlarged(whole[given:last], factor)[..., :planes],))
        given = last
        if done is not None:
            out.append(done)
    return np.concatenate(out)


@pytest.mark.parametrize("feed_ahead", [0, 1, 40])
@pytest.mark.parametrize("strips", [[40], [1] * 40, [7, 20, 1, 12]])
def test_alpha_is_resampled_and_joined_to_the_colour_of_its_rows(strips: list[int], feed_ahead: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (40, 9, 4), np.uint8)
    # Smooth: Pillow clips between its two passes, which shows where extremes meet.
    rows[..., 3] = np.linspace(20, 230, 40)[:, None] + np.arange(9)
    size = output_size(9, 40, factor=4, request=SizeRequest())
    out = _run(_finisher((9, 40, 3), size, 4, alpha=True), rows, 4, strips, feed_ahead=feed_ahead)
    assert out.shape == (160, 36, 4)
    assert np.array_equal(out[..., :3], _enlarged(rows[..., :3], 4))
    wanted = Image.fromarray(rows[..., 3]).resize((36, 160), Image.Resampling.LANCZOS)
    assert np.abs(out[..., 3].astype(int) - np.asarray(wanted)).max() <= 1


def test_grey_stays_one_plane_and_keeps_its_values() -> None:
    rows = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    size = output_size(16, 16, factor=2, request=SizeRequest())
    out = _run(_finisher((16, 16, 1), size, 2, alpha=False), rows, 2, [16], feed_ahead=0)
    assert np.array_equal(out, _enlarged(rows, 2))


def test_only_rows_that_go_through_as_they_are_need_no_thread() -> None:
    size = output_size(8, 6, factor=4, request=SizeRequest())
    smaller = output_size(8, 6, factor=4, request=SizeRequest(scale=2))
    plain = _finisher((8, 6, 3), size, 4, alpha=False)
    rows = np.zeros((24, 32, 3), np.uint8)
    assert plain.passes_on
    assert plain.push((rows,)) is rows
    assert not _finisher((8, 6, 3), size, 4, alpha=True).passes_on
    assert not _finisher((8, 6, 3), smaller, 4, alpha=False).passes_on
    assert not Finisher(Resizer(32, 24, 4, size, 3, 8), None, flatten=True).passes_on


def test_alpha_from_the_network_is_joined_to_the_colour_of_its_rows() -> None:
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 256, (12, 9, 4), np.uint8)
    size = output_size(9, 12, factor=4, request=SizeRequest())
    finisher = Finisher(
        Resizer(36, 48, 4, size, 3, 8), None, flatten=False, network_alpha=Resizer(36, 48, 4, size, 1, 8)
    )
    colour, alpha = finisher.prepare(rows)
    assert np.array_equal(alpha, rows[..., 3:].repeat(3, 2))
    out = finisher.push((_enlarged(colour, 4), _enlarged(alpha, 4)[..., :1]))
    assert out is not None
    assert np.array_equal(out, _enlarged(rows, 4))


def test_cover_shows_the_middle_of_the_picture() -> None:
    rows = np.zeros((20, 40, 3), np.uint8)
    rows[:, 10:30] = 200
    request = SizeRequest(width=40, height=40, fit=_cover())
    size = output_size(40, 20, factor=4, request=request)
    out = _run(_finisher((40, 20, 3), size, 4, alpha=False), rows, 4, [20], feed_ahead=0)
    assert out.shape == (40, 40, 3)
    assert out[:, 3:-3].min() >= 195


def _cover() -> Any:
    from upscaled_server.media.size import Fit

    return Fit.COVER
