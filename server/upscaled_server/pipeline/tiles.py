"""Finished rectangles of the output, cut from rows and encoded while the rest is still being computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from upscaled_server.errors import LimitExceeded
from upscaled_server.media.encode import EncodeOptions
from upscaled_server.media.encode.still import encode_image
from upscaled_server.media.info import Metadata
from upscaled_server.media.planes import Rows, over_white, to_bits, to_rgb
from upscaled_server.pipeline.request import TileEncoding, TileOptions

MIN_SIZE = 64

# What a row of tiles may hold while it fills; the default size fits the widest output there is.
MAX_BAND_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class PendingTile:
    """A tile whose pixels are being encoded; position and size in output pixels, `held_bytes` of raw
    pixels."""

    x: int
    y: int
    width: int
    height: int
    held_bytes: int
    data: Future[bytes]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """How many tiles of `size` pixels an output of `width` x `height` has."""

    width: int
    height: int
    size: int

    @property
    def columns(self) -> int:
        return math.ceil(self.width / self.size)

    @property
    def count(self) -> int:
        return self.columns * math.ceil(self.height / self.size)


def check_band(options: TileOptions, width: int, pixel_bytes: int) -> None:
    """Raise `LimitExceeded` if one row of tiles of an output of this width would hold too much memory."""
    largest = max(MIN_SIZE, MAX_BAND_BYTES // (width * pixel_bytes))
    if options.size > largest:
        raise LimitExceeded(
            "options.tiles.size",
            f"tiles of this size are too much for an output {width} pixels wide",
            limit=largest,
            actual=options.size,
            unit="pixels",
        )


class TileCutter:
    """Gathers output rows until a row of tiles is complete, and hands its tiles to an executor. Holds one
    row of tiles."""

    def __init__(
        self, width: int, height: int, options: TileOptions, executor: Executor, icc: bytes | None = None
    ) -> None:
        self._grid = TileGrid(width, height, options.size)
        self._options = options
        self._executor = executor
        self._metadata = Metadata(icc=icc)
        self._band: Rows | None = None
        self._held = 0
        self._top = 0

    def push(self, rows: Rows) -> Iterator[PendingTile]:
        """The tiles that these rows complete. The rows are copied, so that whoever made them has them
        back."""
        while rows.shape[0]:
            height = min(self._options.size, self._grid.height - self._top)
            if self._band is None:
                self._band = np.empty((height, *rows.shape[1:]), rows.dtype)
            count = min(height - self._held, rows.shape[0])
            self._band[self._held : self._held + count] = rows[:count]
            self._held += count
            rows = rows[count:]
            if self._held == height:
                yield from self._cut(self._band)
                self._band, self._held, self._top = None, 0, self._top + height

    def _cut(self, band: Rows) -> Iterator[PendingTile]:
        for x in range(0, band.shape[1], self._options.size):
            pixels = band[:, x : x + self._options.size]
            data = self._executor.submit(encode_tile, pixels, self._options, self._metadata)
            yield PendingTile(x, self._top, pixels.shape[1], pixels.shape[0], pixels.nbytes, data)


def encode_tile(pixels: Rows, options: TileOptions, metadata: Metadata | None = None) -> bytes:
    """Pixels (height, width, 1..4 planes), uint8 or uint16, in the encoding asked for, with 8 bits.

    The profile in `metadata` goes into tiles that are files; raw pixels have no place for it.
    """
    pixels = to_bits(pixels, 8)
    has_alpha = pixels.shape[2] in (2, 4)
    match options.encoding:
        case TileEncoding.RAW_RGB:
            return to_rgb(over_white(pixels) if has_alpha else pixels).tobytes()
        case TileEncoding.RAW_RGBA:
            return _to_rgba(pixels, has_alpha).tobytes()
        case TileEncoding.JPEG:
            colour = over_white(pixels) if has_alpha else pixels
            return encode_image(colour, "JPEG", EncodeOptions(quality=options.quality), metadata)
        case TileEncoding.WEBP:
            return encode_image(pixels, "WEBP", EncodeOptions(quality=options.quality), metadata)
        case TileEncoding.PNG:
            return encode_image(pixels, "PNG", EncodeOptions(), metadata)


def _to_rgba(pixels: Rows, has_alpha: bool) -> Rows:
    colour, alpha = (pixels[..., :-1], pixels[..., -1:]) if has_alpha else (pixels, None)
    if alpha is None:
        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate((to_rgb(colour), alpha), axis=2)
