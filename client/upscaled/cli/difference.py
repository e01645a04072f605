"""How far two PNG files are apart: figures, and a picture of the difference. Needs the extra `images`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from upscaled._errors import UpscaledError
from upscaled._files import PartialFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[Any]

_ROWS: Final = 256
# Of the values that differ; the few that differ most would leave the others dark.
_SHOWN_SHARE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Difference:
    """Over all values, those of alpha included. `psnr` is in dB, None where nothing differs; `full_scale` is
    255 or 65535; `amplified` is the factor of the picture.
    """

    width: int
    height: int
    channels: int
    full_scale: int
    largest: int
    share: float
    psnr: float | None
    amplified: float


def write_difference(first: Path, second: Path, picture: Path) -> Difference:
    """Compares two PNG files of one size and kind, and writes what differs as a picture of this size.

    It is grey or RGB of 8 bits: distances times a factor, black where both are equal. A difference of alpha
    is shown where it is larger than that of the colour. UpscaledError for files that cannot be compared,
    OSError for those that cannot be read or written.
    """
    import numpy as np
    from PIL import Image

    ours, theirs = read_png(first), read_png(second)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise UpscaledError(
            f"the results cannot be compared: {_kind(ours)} and {_kind(theirs)} ({first}, {second})"
        )
    full_scale = int(np.iinfo(ours.dtype).max)
    counts = np.zeros(full_scale + 1, np.int64)
    for distance in _distances(ours, theirs):
        counts += np.bincount(distance.reshape(-1), minlength=full_scale + 1)
    factor = _factor(counts, full_scale)
    shown = np.concatenate([_shown(distance, factor, full_scale) for distance in _distances(ours, theirs)])
    with PartialFile(picture) as part:
        Image.fromarray(shown).save(part.file, "PNG")
        part.publish()
    height, width, channels = ours.shape
    steps = np.arange(full_scale + 1, dtype=np.float64)
    mean = float((counts * steps**2).sum()) / ours.size
    return Difference(
        width=width,
        height=height,
        channels=channels,
        full_scale=full_scale,
        largest=int(counts.nonzero()[0][-1]),
        share=1 - int(counts[0]) / ours.size,
        psnr=10 * math.log10(full_scale**2 / mean) if mean else None,
        amplified=factor,
    )


def read_png(path: Path) -> Pixels:
    """(height, width, channels), uint8, or uint16 for files of 16 bits.

    Of 16-bit colour Pillow gives one byte; its raw mode says which, so such a file is read twice.
    """
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # not for strangers' files: these two we asked for
    with Image.open(path, formats=["PNG"]) as image:
        raw = _raw_mode(image)
    if raw in ("RGB;16B", "RGBA;16B"):
        pixels: Pixels = _read_as(path, raw).astype(np.uint16)
        pixels <<= 8
        pixels |= _read_as(path, raw.replace("16B", "16L"))
        return pixels
    if raw == "LA;16B":  # four bytes a pixel, as RGBA of 8 bits has
        return np.ascontiguousarray(_read_as(path, "RGBA")).view(">u2").astype(np.uint16)
    pixels = _read_as(path, None)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    return pixels.reshape(*pixels.shape[:2], -1)


def _raw_mode(image: Any) -> str:
    args = image.tile[0].args if image.tile else ""
    return args if isinstance(args, str) else str(args[0])


def _read_as(path: Path, raw_mode: str | None) -> Pixels:
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        if raw_mode is not None:
            image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        image.load()
        return np.asarray(image)


def _distances(ours: Pixels, theirs: Pixels) -> Iterator[Pixels]:
    """|ours - theirs|, some rows at a time, in the type of the pixels."""
    import numpy as np

    for top in range(0, len(ours), _ROWS):
        one, other = ours[top : top + _ROWS], theirs[top : top + _ROWS]
        yield np.maximum(one, other) - np.minimum(one, other)


def _factor(counts: Any, full_scale: int) -> float:
    """What makes all but the largest hundredth of the distances fit into the scale."""
    import numpy as np

    differing = counts[1:].cumsum()
    if not differing[-1]:
        return 1.0
    return full_scale / (1 + int(np.searchsorted(differing, _SHOWN_SHARE * differing[-1])))


def _shown(distance: Pixels, factor: float, full_scale: int) -> Pixels:
    """(n, width) grey or (n, width, 3) RGB, uint8."""
    import numpy as np

    if distance.shape[2] in (2, 4):
        distance = np.maximum(distance[..., :-1], distance[..., -1:])
    bright = np.minimum(distance * (factor * 255 / full_scale), 255).round().astype(np.uint8)
    return bright[..., 0] if bright.shape[2] == 1 else bright


def _kind(pixels: Pixels) -> str:
    height, width, channels = pixels.shape
    return f"{width}x{height}, {channels} channels of {pixels.dtype.itemsize * 8} bits"
