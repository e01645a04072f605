"""The interface of all encoders, and the one way to get one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.encode.options import EncodeOptions, check_encodable
from upscaled_server.media.info import Metadata


class Encoder(Protocol):
    """Rows in, the bytes of a file out, in pieces.

    Call `begin` once, `write` until all rows are in, `finish` once; the file is the bytes of `begin` followed
    by the results of all futures in the order they were returned. Not for concurrent use.

    Compression runs on the executor. Nothing here waits, so memory is the caller's to bound: each future that
    is not done holds about 1 MiB of rows, and each that is done its bytes. An encoder that is dropped half
    way leaves nothing behind but the strips already queued.
    """

    content_type: str
    extension: str

    def begin(self) -> bytes:
        """What comes before the pixels."""
        ...

    def write(self, rows: NDArray[np.generic]) -> list[Future[bytes]]:
        """Takes the next rows, (n, width, channels + has_alpha), uint8 or uint16 as `bits` said.

        The array must not be changed any more. Raises ValueError on another shape or more rows than `height`.
        """
        ...

    def finish(self) -> list[Future[bytes]]:
        """What comes after the pixels. Raises ValueError if rows are missing."""
        ...


def open_encoder(
    format: str,
    *,
    width: int,
    height: int,
    channels: int,
    has_alpha: bool,
    bits: int,
    options: EncodeOptions,
    metadata: Metadata,
    executor: Executor,
) -> Encoder:
    """An encoder for one image. JPEG, WebP and AVIF have 8 bits here: rows of 16 are rounded.

    `metadata` is written where the format has a place for it, made to fit (see `beside.py`); a
    profile whose colour space is not that of the rows is left out. Raises as `check_encodable` does.
    """
    check_encodable(format, width, height, channels=channels, has_alpha=has_alpha, bits=bits, options=options)
    if channels not in (1, 3) or bits not in (8, 16) or width < 1 or height < 1:
        raise ValueError(f"cannot encode {width}x{height}, {channels} channels of {bits} bits")
    make = _encoder_class(format, options)
    return make(width, height, channels, has_alpha, bits, options, metadata, executor)


def _encoder_class(format: str, options: EncodeOptions) -> Callable[..., Encoder]:
    """Loaded here, not above: a caller may want one format only."""
    if format == "PNG":
        from upscaled_server.media.encode.png import PngEncoder

        return PngEncoder
    if format == "JPEG":
        from upscaled_server.media.encode.jpeg import JpegEncoder, ProgressiveJpegEncoder

        return ProgressiveJpegEncoder if options.progressive else JpegEncoder
    if format == "TIFF":
        from upscaled_server.media.encode.tiff import TiffEncoder

        return TiffEncoder
    if format == "AVIF":
        from upscaled_server.media.encode.avif import AvifEncoder

        return AvifEncoder
    from upscaled_server.media.encode.webp import WebpEncoder

    return WebpEncoder
