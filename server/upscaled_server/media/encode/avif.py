"""AVIF, through libavif and an AV1 encoder. The format predicts across the whole image, so the rows are
kept until the last has come."""

from __future__ import annotations

import io
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.encode import beside
from upscaled_server.media.encode.buffered import BufferedEncoder
from upscaled_server.media.encode.options import EncodeOptions
from upscaled_server.media.info import Metadata

_SPEED = 8
"""Of 0 to 10. Upscaled images are large, and 6, libavif's own choice, takes twice as long for 2% less."""
_THREADS = 2
"""Of one encoder; other images want processors too."""


class AvifEncoder(BufferedEncoder):
    """Holds width * height * (1, 3, or 4 with alpha) bytes, and the encoder about four times as much."""

    content_type = "image/avif"
    extension = ".avif"

    def __init__(
        self,
        width: int,
        height: int,
        channels: int,
        has_alpha: bool,
        bits: int,
        options: EncodeOptions,
        metadata: Metadata,
        executor: Executor,
    ) -> None:
        # Grey with alpha becomes RGBA: Pillow hands no other kind of alpha to the encoder.
        self._is_grey = channels == 1 and not has_alpha
        super().__init__(
            width, height, channels + has_alpha, bits, 1 if self._is_grey else 3 + has_alpha, executor
        )
        self._channels = channels
        self._metadata = beside.fitting(metadata, 1 if self._is_grey else 3, width, height)
        self._options = options

    def _laid_out(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._is_grey:
            return rows
        colour, alpha = rows[:, :, : self._channels], rows[:, :, self._channels :]
        return np.concatenate([np.broadcast_to(colour, (*colour.shape[:2], 3)), alpha], axis=2)

    def _encode(self) -> bytes:
        extra: dict[str, Any] = {}
        if self._metadata.icc is not None:
            extra["icc_profile"] = self._metadata.icc
        if self._metadata.exif is not None:
            extra["exif"] = b"Exif\0\0" + self._metadata.exif
        if self._metadata.xmp is not None:
            extra["xmp"] = self._metadata.xmp
        if not self._is_grey:
            extra["subsampling"] = self._options.subsampling
        buffer = io.BytesIO()
        Image.fromarray(self._pixels[:, :, 0] if self._is_grey else self._pixels).save(
            buffer, "AVIF", quality=self._options.quality, speed=_SPEED, max_threads=_THREADS, **extra
        )
        return buffer.getvalue()
