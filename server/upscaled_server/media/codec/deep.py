"""Colour of more than 8 bits, of which Pillow alone gives 8.

Pillow's unpackers take one byte of each 16-bit value: "RGB;16B" the first, "RGB;16L" the second. So a file
is decoded twice, and the two halves are put together again, strip by strip. What Pillow stores in four
bytes a pixel, such as grey with alpha, is taken whole in one reading as if it were RGBA of 8 bits. HEIF is
read by its own library, past Pillow, and cut into the same two halves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

Rows = NDArray[np.uint8] | NDArray[np.uint16]
Retune = Callable[[ImageFile.ImageFile], None]
"""Changes what the next reading of an open file takes from it."""

Unpack = Callable[[IO[bytes]], tuple[Image.Image, Image.Image]]
"""Decodes a file to the high and to the low bytes of its values."""

_HEIF_PLANES = {"RGB;16": 3, "RGBA;16": 4}
_AV1_SEARCHED_BYTES = 1 << 16
"""Of an AVIF: its properties stand in front of the pixels."""
_BANDS = {"RGB": "RGB", "RGBX": "RGBX", "RGBA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True, slots=True)
class Deep:
    """How a file with 16-bit colour is read."""

    channels: int
    has_alpha: bool
    readings: tuple[Retune, ...]
    """None where the file is read as it is; the strips of each are given to `combine`."""
    combine: Callable[..., Rows]
    unpack: Unpack | None = None


def preload() -> None:
    """Teaches Pillow's TIFF reader grey with alpha of 16 bits, as four bytes a pixel."""
    for prefix in (b"II", b"MM"):
        for extra in (0, 2):
            TiffImagePlugin.OPEN_INFO[prefix, 1, (1,), 1, (16, 16), (extra,)] = ("RGBA", "RGBA")


def plan(image: Image.Image) -> Deep | None:
    """None for files of 8 bits, and for the few whose second byte cannot be reached."""
    if image.format == "HEIF":
        return _heif(image)
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
    """Whether Pillow will give 8 of a file's 10 to 16 bits; ask where `plan` gave None."""
    if image.format == "AVIF":
        return _is_deep_avif(image)
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8)) > 8
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


def _heif(image: Image.Image) -> Deep | None:
    """The library gives a file's bits as the upper ones of 16; repeated below, they reach from 0 to 65535."""
    bits = int(image.info.get("bit_depth", 8))
    if bits <= 8:
        return None
    if image.mode == "I;16":
        return Deep(1, False, (), _repeated(bits))
    if image.mode not in ("RGB", "RGBA"):
        return None

    def unpack(file: IO[bytes]) -> tuple[Image.Image, Image.Image]:
        import pillow_heif

        file.seek(0)
        opened = pillow_heif.HeifFile(  # type: ignore[no-untyped-call]  # it has no annotations
            file, convert_hdr_to_8bit=False, hdr_to_16bit=True
        )
        frame = opened[opened.primary_index]
        data, (width, height) = frame.data, frame.size
        planes = _HEIF_PLANES.get(frame.mode)
        if planes is None:
            raise ValueError(f"unsupported mode {frame.mode}")
        lines = np.frombuffer(data, np.uint16).reshape(height, frame.stride // 2)
        values = lines[:, : width * planes].reshape(height, width, planes)
        high, low = (values >> 8).astype(np.uint8), values.astype(np.uint8)
        low |= (values >> bits).astype(np.uint8)
        return Image.fromarray(high), Image.fromarray(low)

    return Deep(3, image.mode == "RGBA", (), _joined(), unpack)


def _repeated(bits: int) -> Callable[[Image.Image], Rows]:
    """Grey from the upper `bits` of 16."""

    def combine(strip: Image.Image) -> Rows:
        rows = np.asarray(strip).astype(np.uint16)[:, :, np.newaxis]
        rows |= rows >> bits
        return rows

    return combine


def _is_deep_avif(image: Image.Image) -> bool:
    """By its AV1 configurations (AV1-ISOBMFF 2.3.3): high_bitdepth is bit 6 of the third byte."""
    file = getattr(image, "fp", None)
    if file is None:
        return False
    file.seek(0)
    head = file.read(_AV1_SEARCHED_BYTES)
    parts = head.split(b"av1C")[1:]
    return any(len(part) > 2 and part[0] == 0x81 and bool(part[2] & 0x40) for part in parts)


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
