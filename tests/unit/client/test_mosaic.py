"""Tiles are put together in any order and however often they come, whole or as a small picture."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from upscaled import Tile
from upscaled.mosaic import Mosaic

WIDTH, HEIGHT, SIDE = 300, 210, 64


def picture(mode: str = "RGB") -> Image.Image:
    planes = len(mode)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = np.stack([(x + y * plane) % 256 for plane in range(planes)], axis=2)
    return Image.fromarray(values.astype(np.uint8), mode)


def tiles(image: Image.Image, encoding: str) -> list[Tile]:
    found = []
    for y in range(0, HEIGHT, SIDE):
        for x in range(0, WIDTH, SIDE):
            part = image.crop((x, y, min(x + SIDE, WIDTH), min(y + SIDE, HEIGHT)))
            if encoding.startswith("raw"):
                data = part.convert("RGBA" if encoding == "raw_rgba" else "RGB").tobytes()
            else:
                buffer = io.BytesIO()
                options = {"lossless": True, "exact": True} if encoding == "webp" else {}
                part.save(buffer, encoding, **options)
                data = buffer.getvalue()
            found.append(Tile(len(found), x, y, part.width, part.height, encoding, data))
    return found


@pytest.mark.parametrize("encoding", ["png", "webp", "raw_rgb", "raw_rgba"])
def test_any_order_and_repetition_gives_the_picture(encoding: str) -> None:
    image = picture()
    given = tiles(image, encoding) * 2
    random.Random(41).shuffle(given)
    mosaic = Mosaic(WIDTH, HEIGHT)
    news = sum(mosaic.add(tile) for tile in given)
    assert (news, mosaic.complete, mosaic.fraction) == (len(given) // 2, True, 1.0)
    assert np.array_equal(np.asarray(mosaic.image()), np.asarray(image))


def test_jpeg_tiles_resemble_it() -> None:
    mosaic = Mosaic(WIDTH, HEIGHT)
    for tile in tiles(picture(), "jpeg"):
        mosaic.add(tile)
    difference = np.asarray(mosaic.image(), int) - np.asarray(picture(), int)
    assert np.abs(difference).mean() < 8


def test_alpha_is_kept() -> None:
    image = picture("RGBA")
    mosaic = Mosaic(WIDTH, HEIGHT, has_alpha=True)
    assert mosaic.image().getpixel((5, 5)) == (0, 0, 0, 0)
    for tile in tiles(image, "raw_rgba"):
        mosaic.add(tile)
    assert np.array_equal(np.asarray(mosaic.image()), np.asarray(image))


def test_a_preview_is_there_at_any_time_and_shows_what_has_come() -> None:
    mosaic = Mosaic(WIDTH, HEIGHT, background=Image.new("RGB", (7, 5), (1, 2, 3)))
    given = tiles(picture(), "raw_rgb")
    before = mosaic.image()
    assert before.getcolors() == [(WIDTH * HEIGHT, (1, 2, 3))]
    mosaic.add(given[6])
    assert 0 < mosaic.fraction < 0.1
    box = (given[6].x, given[6].y, given[6].x + SIDE, given[6].y + SIDE)
    assert mosaic.image().crop(box).tobytes() == picture().crop(box).tobytes()
    assert mosaic.image().getpixel((0, 0)) == (1, 2, 3)
    assert before.getcolors() == [(WIDTH * HEIGHT, (1, 2, 3))]


@pytest.mark.parametrize("side", [1, 7, 100, 299, 300, 5000])
def test_a_small_one_has_no_gaps(side: int) -> None:
    mosaic = Mosaic(WIDTH, HEIGHT, max_side=side, background=Image.new("RGB", (1, 1), (255, 0, 255)))
    for tile in tiles(Image.new("RGB", (WIDTH, HEIGHT), (0, 90, 0)), "raw_rgb"):
        mosaic.add(tile)
    assert max(mosaic.image().size) == min(side, WIDTH)
    assert mosaic.image().getcolors() == [(mosaic.image().width * mosaic.image().height, (0, 90, 0))]


@pytest.mark.parametrize(
    "tile",
    [
        Tile(0, 290, 0, 64, 64, "raw_rgb", bytes(64 * 64 * 3)),
        Tile(0, -1, 0, 4, 4, "raw_rgb", bytes(48)),
        Tile(0, 0, 0, 0, 4, "raw_rgb", b""),
        Tile(0, 0, 0, 4, 4, "raw_rgb", bytes(47)),
        Tile(0, 0, 0, 4, 4, "png", b"no picture"),
        Tile(0, 0, 0, 4, 4, "jxl", b"?"),
        Tile(0, 0, 0, 4, 4, "png", b"".join(tile.data for tile in tiles(picture(), "png")[:1])),
    ],
)
def test_a_tile_that_does_not_belong_changes_nothing(tile: Tile) -> None:
    mosaic = Mosaic(WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="tile 0"):
        mosaic.add(tile)
    assert mosaic.fraction == 0
    assert mosaic.image().getcolors() == [(WIDTH * HEIGHT, (128, 128, 128))]


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_mosaic_has_at_least_one_pixel(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Mosaic(*size)
