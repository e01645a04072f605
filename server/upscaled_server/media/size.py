"""What size the result has.

Rounding is to the nearest whole pixel, halves upwards, and never below 1:

    scale             floor(side * scale + 1/2), each side by itself
    width             height = floor(width * in_height / in_width + 1/2), in whole numbers, so it is exact
    height            likewise
    both, STRETCH     as given
    both, CONTAIN     the largest size of the input's aspect ratio within them: the side that binds is as
    given both, COVER       as given; the middle of the input is shown, as much of it as has the given aspect
    ratio none              as `scale` with the model's own factor
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from upscaled_server.errors import InvalidField, LimitExceeded

MAX_SIDE = 2**31 - 1
Box = tuple[float, float, float, float]


class Fit(Enum):
    CONTAIN = "contain"
    COVER = "cover"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """What the caller asked for; None where nothing was said."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.CONTAIN


@dataclass(frozen=True, slots=True)
class OutputSize:
    width: int
    height: int
    box: Box
    """The part of the input that is shown, (left, top, right, bottom) in input pixels with fractions: all
    of it but for COVER. Multiply by the model's factor for `RowResampler.box`."""

    @property
    def pixels(self) -> int:
        return self.width * self.height


def check_request(request: SizeRequest) -> None:
    """Raises InvalidField, naming the proto field, for what no image could make right."""
    for side, value in (("width", request.width), ("height", request.height)):
        if value is not None and not 1 <= value <= MAX_SIDE:
            raise InvalidField(f"options.{side}", "is out of range", limit=f"1 to {MAX_SIDE}", actual=value)
    if request.scale is None:
        return
    if not math.isfinite(request.scale) or request.scale <= 0:
        raise InvalidField(
            "options.scale", "must be a finite number above 0", limit="above 0", actual=request.scale
        )
    if request.width is not None or request.height is not None:
        raise InvalidField(
            "options.scale",
            "cannot be given together with width or height",
            limit="one of the two kinds",
            actual="both",
        )


def output_size(
    width: int, height: int, *, factor: float, request: SizeRequest, max_pixels: int = 400_000_000
) -> OutputSize:
    """The result's size for an input of width x height pixels and a model that enlarges by `factor`.

    Raises InvalidField as `check_request` does; LimitExceeded above `max_pixels`, naming the field that led
    there.
    """
    check_request(request)
    box: Box = (0.0, 0.0, float(width), float(height))
    field, wide, high = _sides(width, height, factor, request, max_pixels)
    if request.width is not None and request.height is not None and request.fit is Fit.COVER:
        box = _covering(width, height, wide, high)
    if wide * high > max_pixels:
        raise _too_large(field, max_pixels, f"{wide}x{high}", wide * high / 1e6)
    return OutputSize(wide, high, box)


def _sides(
    width: int, height: int, factor: float, request: SizeRequest, max_pixels: int
) -> tuple[str, int, int]:
    """The field that decided, and the sides it led to."""
    if request.width is not None and request.height is not None:
        if request.fit is Fit.CONTAIN:
            return "options.width", *_contained(width, height, request.width, request.height)
        return "options.width", request.width, request.height
    if request.width is not None:
        return "options.width", request.width, _proportional(request.width, height, width)
    if request.height is not None:
        return "options.height", _proportional(request.height, width, height), request.height
    scale = factor if request.scale is None else request.scale
    if max(width, height) * scale > MAX_SIDE:
        raise _too_large("options.scale", max_pixels, f"{width}x{height} times {scale:g}", "more")
    return "options.scale", max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))


def _too_large(field: str, max_pixels: int, size: str, megapixels: float | str) -> LimitExceeded:
    return LimitExceeded(
        field,
        f"the result would be {size}, which is too large",
        limit=max_pixels / 1e6,
        actual=megapixels,
        unit="megapixels",
    )


def _proportional(side: int, numerator: int, denominator: int) -> int:
    """round(side * numerator / denominator), halves upwards, exact."""
    return max(1, (2 * side * numerator + denominator) // (2 * denominator))


def _contained(width: int, height: int, wide: int, high: int) -> tuple[int, int]:
    if wide * height <= high * width:
        return wide, min(high, _proportional(wide, height, width))
    return min(wide, _proportional(high, width, height)), high


def _covering(width: int, height: int, wide: int, high: int) -> Box:
    shown_width = min(float(width), height * wide / high)
    shown_height = min(float(height), width * high / wide)
    left, top = (width - shown_width) / 2, (height - shown_height) / 2
    return (left, top, min(left + shown_width, width), min(top + shown_height, height))
