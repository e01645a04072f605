"""Whether an image goes through the unary call or the streaming one."""

from __future__ import annotations

import math
from typing import Final

from upscaled._info import Limits
from upscaled._sniff import sniff
from upscaled.v1 import options_pb2

UNARY_INPUT_BYTES: Final = 1024 * 1024
"""Images above this go through the streaming call without another thought: enlarged, they hardly ever fit
inline.
"""

_LARGEST_MODEL_SCALE: Final = 4
_OVERHEAD_BYTES: Final = 64 * 1024


def fits_unary(options: options_pb2.UpscaleOptions, image: bytes | None, limits: Limits) -> bool:
    """Whether the answer is sure to fit a unary call, as far as can be told on this side.

    Told from the image's header, so it costs no question to the server. A wrong "yes" would cost the whole
    computation (INLINE_TOO_LARGE comes after it), a wrong "no" costs next to nothing: whatever is unclear is
    a "no". `image` is `None` when the server fetches it.
    """
    if options.delivery == options_pb2.DELIVERY_URL:
        return True
    bound = output_bound(options, image)
    return bound is not None and bound <= limits.max_inline_bytes


def output_bound(options: options_pb2.UpscaleOptions, image: bytes | None) -> int | None:
    """An upper bound of the encoded file in bytes, `None` where the header tells too little."""
    seen = sniff(image) if image is not None else None
    if seen is None or seen.width < 1 or seen.height < 1:
        return None
    width, height = _output_size(options, seen.width, seen.height)
    if not math.isfinite(width * height):
        return None
    pixel_bytes = seen.pixel_bytes if options.bit_depth != 16 else max(seen.pixel_bytes, 8)
    raw = width * height * pixel_bytes
    # What does not compress grows a little; metadata of the input is carried over.
    return int(raw * 1.02) + math.ceil(height) * 2 + len(image or b"") + _OVERHEAD_BYTES


def _output_size(options: options_pb2.UpscaleOptions, width: int, height: int) -> tuple[float, float]:
    asked_width = float(options.width) if options.HasField("width") else 0.0
    asked_height = float(options.height) if options.HasField("height") else 0.0
    if asked_width > 0 and asked_height > 0:
        return asked_width, asked_height
    # An orientation may swap the sides, so a single side is taken for the worse of both.
    aspect = max(width / height, height / width)
    if asked_width > 0 or asked_height > 0:
        side = max(asked_width, asked_height)
        return side, side * aspect
    scale = options.scale if options.HasField("scale") else _LARGEST_MODEL_SCALE
    scale = scale if math.isfinite(scale) and scale > 0 else 1.0  # for the server to refuse
    return width * scale + 1, height * scale + 1
