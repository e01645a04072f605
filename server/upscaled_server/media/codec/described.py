"""Colour that a file describes in numbers instead of a profile: gAMA and cHRM of PNG, and CICP.

The numbers become a profile, which then goes the way of all profiles: pixels are converted to sRGB, the
answer back, and it carries the profile. As browsers do, what nearly is the curve of sRGB is taken for it.

CICP are the code points of ITU-T H.273, in PNG the chunk cICP, in AVIF and HEIF the box colr of type nclx.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from PIL import Image

from upscaled_server.media.codec import littlecms, structure
from upscaled_server.media.codec.littlecms import Point

_Primaries = tuple[Point, Point, Point]

_D65 = (0.3127, 0.3290)
_SRGB: _Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_GAMMA_SAME_WITHIN = 0.05
"""Of 1 / 2.2, relative: the threshold of libpng, below which a file's gamma is taken for that of sRGB."""
_GAMMA_RANGE = (0.1, 4.0)
_SEARCHED_BYTES = 1 << 16

# By the code of ColourPrimaries: BT.709, BT.2020, P3 with the white point of its cinema and with D65.
_PRIMARIES: dict[int, tuple[Point, _Primaries]] = {
    1: (_D65, _SRGB),
    9: (_D65, ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    11: ((0.314, 0.351), ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
    12: (_D65, ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
# By the code of TransferCharacteristics. The curve of video counts as that of sRGB, as browsers have it.
_CURVES: dict[int, float | None] = {1: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0}
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True)
class Described:
    """A profile made of a file's numbers, or why there is none."""

    icc: bytes | None = None
    remarks: tuple[str, ...] = ()


def profile(name: str, image: Image.Image, file: IO[bytes], space: bytes) -> Described:
    """For an image without an ICC profile. `space` is that of its rows, b"RGB " or b"GRAY"."""
    if (codes := _cicp(name, file)) is not None:
        return _of_codes(*codes, space)
    if name != "PNG" or "srgb" in image.info:
        return Described()
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma is None and points is None:
        return Described()
    curve = None
    if gamma is not None and abs(gamma * 2.2 - 1) > _GAMMA_SAME_WITHIN:
        if not _GAMMA_RANGE[0] <= gamma <= _GAMMA_RANGE[1]:
            return Described(remarks=("the gAMA chunk was ignored: it is out of range",))
        curve = 1 / gamma
    white, primaries = _D65, _SRGB
    if points is not None:
        white, red, green, blue = zip(points[::2], points[1::2], strict=True)
        primaries = (red, green, blue)
    return _made(space, curve, white, primaries)


def _of_codes(primaries: int, transfer: int, space: bytes) -> Described:
    if transfer in _HIGH_DYNAMIC_RANGE:
        said = _HIGH_DYNAMIC_RANGE[transfer]
        return Described(remarks=(f"high dynamic range ({said}) is not supported: taken for sRGB",))
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return Described()
    return _made(space, _CURVES[transfer], *_PRIMARIES[primaries])


def _made(space: bytes, curve: float | None, white: Point, primaries: _Primaries) -> Described:
    try:
        return Described(littlecms.made(space, curve, white, primaries))
    except littlecms.UnusableProfileError:
        return Described(remarks=("the cHRM chunk was ignored: its points make no colours",))


def _cicp(name: str, file: IO[bytes]) -> tuple[int, int] | None:
    """ColourPrimaries and TransferCharacteristics."""
    if name == "PNG":
        found = structure.png_chunk(file, b"cICP")
        return None if found is None or len(found) != 4 else (found[0], found[1])
    if name in ("AVIF", "HEIF"):
        file.seek(0)
        _, box, rest = file.read(_SEARCHED_BYTES).partition(b"colrnclx")
        if box and len(rest) >= 4:
            first, second = struct.unpack_from(">HH", rest)
            return first, second
    return None
