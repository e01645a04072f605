"""PNG (ISO/IEC 15948), encoded in independent strips.

Each strip is filtered and deflated on its own, without the window of the one before, and ends with a sync
flush on a byte boundary, so that the strips in a row are one valid deflate stream; each becomes one
IDAT chunk. The checksum of the whole, which the zlib format wants at its end, is combined from those of the
strips.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import Executor, Future

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from upscaled_server.media.encode import beside, filters
from upscaled_server.media.encode.options import Compression, EncodeOptions
from upscaled_server.media.encode.strips import Rows, StripCutter
from upscaled_server.media.info import Metadata

_STRIP_BYTES = 1 << 20
_LAST_STRIP_BYTES = 256 << 10
"""Smaller ones pack noticeably worse: each begins without a window."""
_FILTERED_TOGETHER = 8
"""Rows that get one filter: of an upscaled image neighbouring rows want the same."""
_FAST_LEVEL = 1
"""Of igzip. The higher ones take longer, and pack filtered photographs no better."""
_FLAT_SHARE = 0.12
"""Of its raw size: strips that pack to less are tried in other ways as well."""
_COLOUR_TYPE = {(1, False): 0, (3, False): 2, (1, True): 4, (3, True): 6}
_ZLIB_HEADER = b"\x78\x01"
_INCHES_PER_METRE = 1 / 0.0254
_ADLER_MODULUS = 65521
# Measured on upscaled photographs: Paeth and None never pay for their time with igzip.
_FILTERS: dict[Compression, tuple[int, ...]] = {
    "fast": (filters.UP, filters.AVERAGE),
    "default": (filters.SUB, filters.UP, filters.AVERAGE),
    "small": (filters.NONE, filters.SUB, filters.UP, filters.AVERAGE, filters.PAETH),
}


class PngEncoder:
    content_type = "image/png"
    extension = ".png"

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
        self._header = struct.pack(
            ">IIBBBBB", width, height, bits, _COLOUR_TYPE[channels, has_alpha], 0, 0, 0
        )
        self._metadata = beside.fitting(metadata, channels, width, height)
        self._compression = options.compression
        self._executor = executor
        self._stride = (channels + has_alpha) * bits // 8
        row_bytes = width * self._stride
        self._cutter = StripCutter(
            width,
            height,
            channels + has_alpha,
            bits,
            strip_rows=max(1, _STRIP_BYTES // row_bytes),
            last_rows=max(1, _LAST_STRIP_BYTES // row_bytes),
        )
        self._above: Rows | None = None
        self._trailer = _Trailer()
        self._height = height
        self._rows_out = 0
        self._strips = 0

    def begin(self) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", self._header) + _ancillary(self._metadata)

    def write(self, rows: Rows) -> list[Future[bytes]]:
        futures = []
        for strip in self._cutter.push(rows):
            futures.append(self._submit(strip))
            self._above = strip[-1:].copy()  # the strip itself should go when it has been encoded
        return futures

    def finish(self) -> list[Future[bytes]]:
        self._cutter.finish()
        return [self._trailer.close(self._strips)]

    def _submit(self, strip: Rows) -> Future[bytes]:
        is_first = self._strips == 0
        self._rows_out += len(strip)
        is_last = self._rows_out == self._height
        future = self._executor.submit(self._encode, strip, self._above, self._strips, is_first, is_last)
        future.add_done_callback(self._trailer.watch)
        self._strips += 1
        return future

    def _encode(self, strip: Rows, above: Rows | None, index: int, is_first: bool, is_last: bool) -> bytes:
        """One IDAT chunk. Runs on the executor, several strips at a time."""
        rows = _as_bytes(strip)
        before = None if above is None else _as_bytes(above)[0]
        together = 1 if self._compression == "small" else _FILTERED_TOGETHER
        filtered = filters.filter_rows(
            rows, before, self._stride, _FILTERS[self._compression], together=together
        )
        body = _deflate(filtered, self._compression, is_last)
        if self._compression == "default" and _size(body) < _FLAT_SHARE * filtered.size:
            filtered, body = self._flatter(rows, before, filtered, body, is_last)
        self._trailer.add(index, isal_zlib.adler32(filtered), filtered.size)
        return chunk(b"IDAT", _ZLIB_HEADER, *body) if is_first else chunk(b"IDAT", *body)

    def _flatter(
        self,
        rows: NDArray[np.uint8],
        before: NDArray[np.uint8] | None,
        filtered: NDArray[np.uint8],
        body: list[bytes],
        is_last: bool,
    ) -> tuple[NDArray[np.uint8], list[bytes]]:
        """Of a strip that hardly has content, the smallest of three: drawings and screenshots repeat
        themselves, which filters hide and igzip is too hasty to see, and zlib is fast where it finds much."""
        plain = filters.filter_rows(rows, before, self._stride, (filters.NONE,))
        plain_body = _deflate(plain, "default", is_last)
        if _size(plain_body) < _size(body):
            filtered, body = plain, plain_body
        thorough = _deflate(filtered, "small", is_last)
        return filtered, min(body, thorough, key=_size)


class _Trailer:
    """The checksum that ends the zlib stream, ready when every strip is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[int, tuple[int, int]] = {}
        self._expected: int | None = None
        self._future: Future[bytes] = Future()

    def add(self, index: int, adler: int, length: int) -> None:
        with self._lock:
            self._parts[index] = adler, length
        self._complete()

    def close(self, count: int) -> Future[bytes]:
        """No more than `count` strips will come."""
        with self._lock:
            self._expected = count
        self._complete()
        return self._future

    def watch(self, strip: Future[bytes]) -> None:
        """A strip that fails or is cancelled leaves no file to finish."""
        if strip.cancelled() or strip.exception() is not None:
            self._future.cancel()

    def _complete(self) -> None:
        with self._lock:
            if len(self._parts) != self._expected or not self._future.set_running_or_notify_cancel():
                return
            self._expected = None
        total = 1
        for index in range(len(self._parts)):
            total = combined_adler32(total, *self._parts[index])
        self._future.set_result(chunk(b"IDAT", struct.pack(">I", total)) + chunk(b"IEND", b""))


def combined_adler32(first: int, second: int, second_length: int) -> int:
    """The checksum of two pieces in a row from those of each (RFC 1950, section 9; `adler32_combine` of
    zlib)."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + second_length * ((first & 0xFFFF) - 1)
    return (high % _ADLER_MODULUS) << 16 | low % _ADLER_MODULUS


def chunk(kind: bytes, *body: bytes) -> bytes:
    checksum = isal_zlib.crc32(kind)
    for part in body:
        checksum = isal_zlib.crc32(part, checksum)
    return b"".join([struct.pack(">I", _size(body)), kind, *body, struct.pack(">I", checksum)])


def _as_bytes(strip: Rows) -> NDArray[np.uint8]:
    """(rows, bytes of a row), the most significant byte of 16-bit values first."""
    if strip.dtype != np.uint8:
        strip = strip.astype(">u2")
    return np.ascontiguousarray(strip).reshape(len(strip), -1).view(np.uint8)


def _deflate(data: NDArray[np.uint8], compression: Compression, is_last: bool) -> list[bytes]:
    """The pieces of a deflate stream; only its last strip ends it."""
    if compression == "small":
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
        return [packer.compress(data.data), packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)]
    fast = isal_zlib.compressobj(_FAST_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return [fast.compress(data), fast.flush(isal_zlib.Z_FINISH if is_last else isal_zlib.Z_SYNC_FLUSH)]


def _size(pieces: Iterable[bytes]) -> int:
    return sum(map(len, pieces))


def _ancillary(metadata: Metadata) -> bytes:
    """The chunks that must come before the pixels, in the order the specification asks for."""
    chunks = []
    if metadata.icc is not None:
        chunks.append(chunk(b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc)))
    else:
        chunks.append(chunk(b"sRGB", b"\0"))
    if metadata.dpi is not None:
        x, y = (min(round(part * _INCHES_PER_METRE), 2**31 - 1) for part in metadata.dpi)
        chunks.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif is not None:
        chunks.append(chunk(b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        # Keyword, not compressed, no language, no translated keyword; what the XMP specification (part 3)
        # asks for.
        chunks.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc is not None:
        # PNG has no place of its own for IPTC; readers know this form from ImageMagick and ExifTool.
        digits = metadata.iptc.hex().encode()
        lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
        text = b"\niptc\n%8d\n%s\n" % (len(metadata.iptc), lines)
        chunks.append(chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    return b"".join(chunks)
