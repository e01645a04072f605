"""16-bit colour, of which Pillow alone gives 8 bits.

Pillow's unpackers take one byte of each 16-bit value: "RGB;16B" the first, "RGB;16L" the second. So a file
is decoded twice, and the two halves are put together again, strip by strip. What Pillow stores in four
bytes a pixel, such as grey with alpha, is taken whole in one reading as if it were RGBA of 8 bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

Rows = NDArray[np.uint8] | NDArray[np.uint16]
Retune = Callable[[ImageFile.ImageFile], None]
"""Changes what the next reading of an open file takes from it."""

_BANDS = {"RGB": "RGB", "RGBX": "RGBX", "RGBA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True, slots=True)
class Deep:
    """How a file with 16-bit colour is read."""

    channels: int
    has_alpha: bool
    readings: tuple[Retune, ...]
    """One or two; the strips of each are given to `combine`."""
    combine: Callable[..., Rows]


def preload() -> None:
    """Teaches Pillow's TIFF reader grey with alpha of 16 bits, as four bytes a pixel."""
    for prefix in (b"II", b"MM"):
        for extra in (0, 2):
            TiffImagePlugin.OPEN_INFO[prefix, 1, (1,), 1, (16, 16), (extra,)] = ("RGBA", "RGBA")


def plan(image: Image.Image) -> Deep | None:
    """None for files without 16-bit colour, and for the few whose second byte cannot be reached."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    if image.format == "PNG":
        return _png(image)
    if image.format == "TIFF":
        return _tiff(image)
    if image.format == "PPM":
        return _ppm(image)
    return None


def is_reduced(image: Image.Image) -> bool:
    """Whether Pillow will give 8 of a file's 16 bits; ask where `plan` gave None."""
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, ())
        return len(bits) > 1 and max(bits) > 8
    return False


def _png(image: ImageFile.ImageFile) -> Deep | None:
    raw = _raw_mode(image)
    if raw == "LA;16B":
        return Deep(1, True, (_retuned("RGBA"),), _pairs(">u2"))
    if raw not in ("RGB;16B", "RGBA;16B"):
        return None
    key = image.info.get("transparency") if raw == "RGB;16B" else None
    transparent = key if isinstance(key, tuple) and len(key) == 3 else None
    has_alpha = raw == "RGBA;16B" or transparent is not None
    return Deep(3, has_alpha, _halves(raw[:-4], big_endian=True), _joined(transparent=transparent))


def _tiff(image: ImageFile.ImageFile) -> Deep | None:
    raw = _raw_mode(image)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, ())
    if not bits or set(bits) != {16}:
        return None
    by_library = image.tile[0].codec_name == "libtiff"
    big_endian = sys.byteorder == "big" if by_library else tags.prefix == b"MM"
    if raw == "RGBA" and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 1:
        if tags.get(284) == 2:  # PlanarConfiguration: bands one after the other
            return None
        pairs = _pairs(">u2" if big_endian else "<u2")
        return Deep(1, tags.get(TiffImagePlugin.EXTRASAMPLES) == (2,), (_retuned("RGBA"),), pairs)
    if tags.get(284) == 2:
        if by_library or image.mode not in ("RGB", "RGBA"):
            return None
        return Deep(3, image.mode == "RGBA", _band_halves(big_endian), _joined())
    name, _, tail = raw.partition(";")
    if name not in _BANDS or not tail.startswith("16"):
        return None
    return Deep(
        3,
        image.mode == "RGBA",
        _halves(_BANDS[name], big_endian=big_endian),
        _joined(premultiplied=name == "RGBa"),
    )


def _ppm(image: ImageFile.ImageFile) -> Deep | None:
    tile = image.tile[0]
    if image.mode != "RGB" or tile.codec_name != "ppm" or not isinstance(tile.args, tuple):
        return None
    most = tile.args[1]
    if not isinstance(most, int) or most < 256:
        return None
    return Deep(3, False, _halves("RGB", big_endian=True, codec="raw"), _joined(most=most))


def _raw_mode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _halves(bands: str, *, big_endian: bool, codec: str | None = None) -> tuple[Retune, Retune]:
    """The readings of the high and of the low bytes."""
    high, low = ("B", "L") if big_endian else ("L", "B")
    return _retuned(f"{bands};16{high}", codec), _retuned(f"{bands};16{low}", codec)


def _band_halves(big_endian: bool) -> tuple[Retune, Retune]:
    """The same for bands that are stored one after the other, each in tiles of its own."""

    def retuned(suffix: str) -> Retune:
        def retune(image: ImageFile.ImageFile) -> None:
            bands = [str(tile.args[0]) if tile.args else "" for tile in image.tile]
            image.tile = [
                tile._replace(args=(f"{band};16{suffix}", 0, 1))
                for tile, band in zip(image.tile, bands, strict=True)
            ]

        return retune

    return (retuned("B"), retuned("L")) if big_endian else (retuned("L"), retuned("B"))


def _retuned(raw_mode: str, codec: str | None = None) -> Retune:
    def retune(image: ImageFile.ImageFile) -> None:
        tiles = []
        for tile in image.tile:
            args: Any = raw_mode
            if codec is not None:
                args = (raw_mode, 0, 1)
            elif isinstance(tile.args, tuple):
                args = (raw_mode, *tile.args[1:])
            tiles.append(tile._replace(codec_name=codec or tile.codec_name, args=args))
        image.tile = tiles

    return retune


def _pairs(order: str) -> Callable[[Image.Image], Rows]:
    def combine(strip: Image.Image) -> Rows:
        return np.ascontiguousarray(np.asarray(strip)).view(order).astype(np.uint16)

    return combine


def _joined(
    *, transparent: tuple[int, ...] | None = None, premultiplied: bool = False, most: int = 65535
) -> Callable[[Image.Image, Image.Image], Rows]:
    def combine(high: Image.Image, low: Image.Image) -> Rows:
        rows = np.asarray(high).astype(np.uint16)
        rows <<= 8
        rows |= np.asarray(low)
        if most != 65535:
            rows = (np.minimum(rows, most).astype(np.uint32) * 65535 // most).astype(np.uint16)
        if premultiplied:
            rows = _straight(rows)
        if transparent is not None:
            seen = (rows != np.array(transparent, np.uint16)).any(axis=2, keepdims=True)
            rows = np.concatenate([rows, seen * np.uint16(65535)], axis=2)
        return rows

    return combine


def _straight(rows: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Colour divided by alpha, rounded; black where alpha is zero."""
    alpha = rows[:, :, 3:].astype(np.uint32)
    colour = (rows[:, :, :3].astype(np.uint32) * 65535 + alpha // 2) // np.maximum(alpha, 1)
    colour[np.broadcast_to(alpha == 0, colour.shape)] = 0
    return np.concatenate([np.minimum(colour, 65535).astype(np.uint16), rows[:, :, 3:]], axis=2)
