"""Which colour space the pixels are in, and how they become sRGB, which the networks were trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.codec import littlecms

Rows = NDArray[Any]
Convert = Callable[[Rows], Rows]

_IGNORED = "the colour profile was ignored"


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a file's profile."""

    icc: bytes | None
    """The profile that the answer can have."""
    to_srgb: Convert | None
    """None where the rows are sRGB, or are taken for it."""
    remarks: tuple[str, ...] = ()


def preload() -> None:
    littlecms.load()


def settle(icc: bytes | None, space: bytes, *, bits: int, has_alpha: bool) -> Settled:
    """`space` is that of the rows, b"RGB " or b"GRAY"; b"" where they have become sRGB already.

    A profile that cannot be used costs nobody the image: the pixels count as sRGB then, as browsers do it.
    """
    if icc is None or not space:
        return Settled(None, None)
    if space == b"GRAY" and icc[16:20] == b"RGB ":
        return _grey_through_rgb(icc, bits)
    try:
        to_srgb = littlecms.to_srgb(icc, space, bits=bits, has_alpha=has_alpha)
    except littlecms.UnusableProfileError as error:
        return Settled(None, None, (f"{_IGNORED}: {error}",))
    if to_srgb is None:
        return Settled(icc, None)
    try:
        littlecms.from_srgb(icc, space, bits=bits, has_alpha=has_alpha)
    except littlecms.UnusableProfileError:
        return Settled(None, to_srgb, ("the colour profile has no way back: the answer is in sRGB",))
    return Settled(icc, to_srgb)


def _grey_through_rgb(icc: bytes, bits: int) -> Settled:
    """Grey pixels with a profile for RGB, as palettes of greys have: the answer cannot carry it."""
    try:
        through = littlecms.to_srgb(icc, b"RGB ", bits=bits, has_alpha=False)
    except littlecms.UnusableProfileError as error:
        return Settled(None, None, (f"{_IGNORED}: {error}",))
    if through is None:
        return Settled(None, None)

    def convert(rows: Rows) -> Rows:
        grey = through(np.repeat(rows[..., :1], 3, axis=2))[..., 1:2]
        return np.concatenate([grey, rows[..., 1:]], axis=2)

    return Settled(
        None, convert, ("the colour profile is for RGB, the image is grey: the answer is in sRGB",)
    )
