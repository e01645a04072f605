"""Baseline JPEG (ITU-T T.81), encoded in independent strips.

A strip is a whole number of MCU rows and becomes one restart interval: at its end the Huffman coder is
byte-aligned and its predictors start again. So strips are encoded as images of their own, by libjpeg with the
same tables and the same restart interval, and what lies between their headers and end markers is spliced into
one file, with a restart marker between two strips. The pixels are those that libjpeg would make of the whole
image.

Progressive files send the whole image coarse first, so they cannot be streamed: `ProgressiveJpegEncoder`
keeps the rows until the last has come.
"""

from __future__ import annotations

import io
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upscaled_server.media.encode import beside
from upscaled_server.media.encode.buffered import BufferedEncoder
from upscaled_server.media.encode.options import EncodeOptions
from upscaled_server.media.encode.strips import Rows, StripCutter, to_8_bits
from upscaled_server.media.info import Metadata

_STRIP_BYTES = 1 << 20
_MAX_INTERVAL = 65535  # MCUs, the range of the DRI segment
_SOF0, _SOS = 0xC0, 0xDA
_RST0 = 0xD0
_EOI = b"\xff\xd9"


class JpegEncoder:
    content_type = "image/jpeg"
    extension = ".jpg"

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
        self._width = width
        self._height = height
        self._channels = channels
        self._has_alpha = has_alpha
        self._metadata = beside.fitting(metadata, channels, width, height)
        self._executor = executor
        mcu = 16 if channels == 3 and options.subsampling == "4:2:0" else 8
        mcus_per_row = -(-width // mcu)
        mcu_rows = min(
            max(1, _STRIP_BYTES // (width * channels * mcu)), _MAX_INTERVAL // mcus_per_row, -(-height // mcu)
        )
        self._mcu = mcu
        self._saving: dict[str, Any] = {
            "quality": options.quality,
            "subsampling": options.subsampling if channels == 3 else -1,
            "optimize": False,
            "progressive": False,
            "restart_marker_blocks": mcu_rows * mcus_per_row,
        }
        self._cutter = StripCutter(width, height, channels + has_alpha, bits, mcu_rows * mcu)
        self._strips = 0

    def begin(self) -> bytes:
        shape = (self._mcu, self._width) if self._channels == 1 else (self._mcu, self._width, 3)
        sample = self._save(np.zeros(shape, np.uint8), _extra(self._metadata))
        start, size_at = _header_end(sample)
        header = bytearray(sample[:start])
        header[size_at : size_at + 2] = self._height.to_bytes(2, "big")
        return bytes(header)

    def write(self, rows: Rows) -> list[Future[bytes]]:
        futures = []
        for strip in self._cutter.push(rows):
            futures.append(self._executor.submit(self._encode, strip, self._strips))
            self._strips += 1
        return futures

    def finish(self) -> list[Future[bytes]]:
        self._cutter.finish()
        end: Future[bytes] = Future()
        end.set_result(_EOI)
        return [end]

    def _encode(self, strip: Rows, index: int) -> bytes:
        """One restart interval, with the marker that sets it off from the one before. Runs on the
        executor."""
        pixels = to_8_bits(strip)
        if self._has_alpha:
            pixels = over_white(pixels)
        encoded = self._save(pixels[:, :, 0] if self._channels == 1 else pixels, {})
        start, _ = _header_end(encoded)
        marker = bytes((0xFF, _RST0 + (index - 1) % 8)) if index else b""
        return marker + encoded[start : -len(_EOI)]

    def _save(self, pixels: NDArray[np.uint8], extra: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", **self._saving, **extra)
        return buffer.getvalue()


class ProgressiveJpegEncoder(BufferedEncoder):
    """Holds width * height * channels bytes, and libjpeg six more per pixel while it encodes."""

    content_type = "image/jpeg"
    extension = ".jpg"

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
        super().__init__(width, height, channels + has_alpha, bits, channels, executor)
        self._has_alpha = has_alpha
        self._saving: dict[str, Any] = {
            "quality": options.quality,
            "subsampling": options.subsampling if channels == 3 else -1,
            "optimize": True,
            "progressive": True,
            **_extra(beside.fitting(metadata, channels, width, height)),
        }

    def _laid_out(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return over_white(rows) if self._has_alpha else rows

    def _encode(self) -> bytes:
        pixels = self._pixels
        buffer = io.BytesIO()
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        image.save(buffer, "JPEG", **self._saving)
        return buffer.getvalue()


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight alpha over white, in the encoded (not linear) values, as browsers do; the last plane goes."""
    alpha = pixels[:, :, -1:].astype(np.uint16)
    mixed = pixels[:, :, :-1] * alpha + 255 * (255 - alpha) + 127
    return (mixed // 255).astype(np.uint8)


def _extra(metadata: Metadata) -> dict[str, Any]:
    """What fits into JPEG segments. What needs more than one is left out, but for profiles."""
    extra: dict[str, Any] = {}
    if metadata.icc is not None:
        extra["icc_profile"] = metadata.icc
    if beside.fits_jpeg_exif(metadata):
        extra["exif"] = b"Exif\0\0" + (metadata.exif or b"")
    if beside.fits_jpeg_xmp(metadata):
        extra["xmp"] = metadata.xmp
    if metadata.iptc is not None:
        segment = beside.photoshop(metadata.iptc)
        if len(segment) <= beside.JPEG_SEGMENT_BYTES:
            extra["extra"] = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
    if metadata.dpi is not None:
        extra["dpi"] = tuple(min(max(round(part), 1), 65535) for part in metadata.dpi)
    return extra


def _header_end(data: bytes) -> tuple[int, int]:
    """Where the entropy-coded data begins, and where the frame header says the height."""
    at = 2
    size_at = 0
    while True:
        code = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if code == _SOF0:
            size_at = at + 5
        at += 2 + length
        if code == _SOS:
            return at, size_at
