"""The pixels of one tile, whatever its encoding."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from upscaled._results import Tile

if TYPE_CHECKING:
    from PIL import Image

_RAW_MODES: Final = {"raw_rgb": "RGB", "raw_rgba": "RGBA"}
_FILE_FORMATS: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


def decoded(tile: Tile) -> Image.Image:
    """Raises ValueError if the data is not what the tile says of it."""
    from PIL import Image

    size = (tile.width, tile.height)
    if tile.encoding in _RAW_MODES:
        mode = _RAW_MODES[tile.encoding]
        if len(tile.data) != tile.width * tile.height * len(mode):
            raise ValueError(
                f"tile {tile.sequence} has {len(tile.data)} bytes for {size[0]}x{size[1]} {mode}"
            )
        return Image.frombytes(mode, size, tile.data)
    if tile.encoding not in _FILE_FORMATS:
        raise ValueError(f"tile {tile.sequence} has an unknown encoding, {tile.encoding!r}")
    try:
        image = Image.open(io.BytesIO(tile.data), formats=[_FILE_FORMATS[tile.encoding]])
        if image.size != size:
            raise ValueError(f"it has {image.width}x{image.height} pixels, not {size[0]}x{size[1]}")
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"tile {tile.sequence} cannot be read: {error}") from error
    return image
