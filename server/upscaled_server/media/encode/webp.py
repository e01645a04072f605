"""WebP, through libwebp. The format predicts across the whole image, so the rows are kept until the last
has come."""

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


class WebpEncoder(BufferedEncoder):
    """Holds width * height * (3, or 4 with alpha) bytes, at most 1 GiB (16383 x 16383 with alpha)."""

    content_type = "image/webp"
    extension = ".webp"

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
        super().__init__(width, height, channels + has_alpha, bits, 3 + has_alpha, executor)
        self._channels = channels
        self._metadata = beside.fitting(metadata, 3, width, height)  # libwebp makes RGB of grey
        self._options = options

    def _laid_out(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
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
        lossless = self._options.lossless
        buffer = io.BytesIO()
        Image.fromarray(self._pixels).save(
            buffer,
            "WEBP",
            lossless=lossless,
            exact=lossless,
            # In lossless mode "quality" is effort, and does not touch the pixels.
            quality=75 if lossless else self._options.quality,
            method=4,
            **extra,
        )
        return buffer.getvalue()
