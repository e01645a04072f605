"""TIFF 6.0, encoded in strips.

The header of a TIFF says where its directory is, and the directory says where each strip is. Without
compression both are known before the first pixel, so the file is written while rows arrive. With compression
nothing can leave before the last strip has been packed: the packed strips are kept until then.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future

import numpy as np

from upscaled_server.media.encode import beside, tags
from upscaled_server.media.encode.options import EncodeOptions
from upscaled_server.media.encode.strips import Rows, StripCutter
from upscaled_server.media.info import Metadata

MAX_FILE_BYTES = 2**32 - 1
_STRIP_BYTES = 1 << 20
_HEADER = struct.pack("<2sHI", b"II", 42, 8)
_UNCOMPRESSED, _DEFLATE = 1, 8
_HORIZONTAL_DIFFERENCES = 2
_GREY, _RGB = 1, 2
_STRAIGHT_ALPHA = 2
_INCH = 2
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS, _ICC, _XMP, _IPTC = 273, 279, 34675, 700, 33723
_DPI_IF_UNKNOWN = 72.0  # the specification asks for a resolution


class TiffEncoder:
    """Strips of about 1 MiB. Compressed, it holds the packed file; else nothing but the strip that fills."""

    content_type = "image/tiff"
    extension = ".tiff"

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
        self._executor = executor
        self._packs = options.compression == "small"
        planes = channels + has_alpha
        row_bytes = width * planes * bits // 8
        strip_rows = min(height, max(1, _STRIP_BYTES // row_bytes))
        self._cutter = StripCutter(width, height, planes, bits, strip_rows)
        counts = [strip_rows * row_bytes] * (height // strip_rows)
        if height % strip_rows:
            counts.append(height % strip_rows * row_bytes)
        self._raw_counts = counts
        self._directory = _directory(width, height, channels, has_alpha, bits, strip_rows, self._packs)
        _add_metadata(self._directory, beside.fitting(metadata, channels, width, height))
        self._packed = _Packed(len(counts))
        self._strips = 0

    def begin(self) -> bytes:
        return b"" if self._packs else self._head(self._raw_counts)

    def write(self, rows: Rows) -> list[Future[bytes]]:
        futures = []
        for strip in self._cutter.push(rows):
            task = self._pack if self._packs else _stored
            future = self._executor.submit(task, strip, self._strips)
            if self._packs:
                future.add_done_callback(self._packed.watch)
            futures.append(future)
            self._strips += 1
        return futures

    def finish(self) -> list[Future[bytes]]:
        self._cutter.finish()
        return self._packed.close(self._head) if self._packs else []

    def _head(self, counts: list[int]) -> bytes:
        """Header and directory, for strips of these many bytes."""
        directory = self._directory
        directory.set(_STRIP_BYTE_COUNTS, tags.LONG, *counts)
        directory.set(_STRIP_OFFSETS, tags.LONG, *([0] * len(counts)))
        start = len(_HEADER) + len(directory.packed(len(_HEADER)))
        offsets = [start, *(start + int(end) for end in np.cumsum(counts[:-1], dtype=np.int64))]
        directory.set(_STRIP_OFFSETS, tags.LONG, *offsets)
        return _HEADER + directory.packed(len(_HEADER))

    def _pack(self, strip: Rows, index: int) -> bytes:
        """Keeps the strip, deflated. The file's bytes come at the end, so there are none yet."""
        self._packed.keep(index, zlib.compress(_differences(strip).tobytes(), 6))
        return b""


class _Packed:
    """Strips in any order, and the futures of a file's pieces, complete when every strip is there."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._strips: dict[int, bytes] = {}
        self._count = count
        self._pieces: list[Future[bytes]] = []
        self._head: Callable[[list[int]], bytes] | None = None

    def keep(self, index: int, packed: bytes) -> None:
        with self._lock:
            self._strips[index] = packed
        self._complete()

    def close(self, head: Callable[[list[int]], bytes]) -> list[Future[bytes]]:
        with self._lock:
            self._pieces = [Future() for _ in range(self._count + 1)]
            self._head = head
        self._complete()
        return self._pieces

    def watch(self, strip: Future[bytes]) -> None:
        """A strip that fails or is cancelled leaves no file to finish."""
        if strip.cancelled() or strip.exception() is not None:
            for piece in self._pieces:
                piece.cancel()

    def _complete(self) -> None:
        with self._lock:
            head, self._head = self._head, None
            if head is None or len(self._strips) < self._count:
                self._head = head
                return
        strips = [self._strips.pop(index) for index in range(self._count)]
        parts = [head([len(strip) for strip in strips]), *strips]
        for piece, part in zip(self._pieces, parts, strict=True):
            if piece.set_running_or_notify_cancel():
                piece.set_result(part)


def _stored(strip: Rows, _: int) -> bytes:
    return np.ascontiguousarray(strip, strip.dtype.newbyteorder("<")).tobytes()


def _differences(strip: Rows) -> Rows:
    """Each value less the one to its left, modulo 2**bits (TIFF 6.0, section 14)."""
    dtype = np.dtype("u1" if strip.dtype.itemsize == 1 else "<u2")
    values = strip.astype(dtype)
    return np.diff(values, axis=1, prepend=np.zeros((len(values), 1, values.shape[2]), dtype))


def _directory(
    width: int, height: int, channels: int, has_alpha: bool, bits: int, strip_rows: int, packs: bool
) -> tags.Directory:
    planes = channels + has_alpha
    directory = tags.Directory()
    for number, kind, values in (
        (256, tags.LONG, [width]),
        (257, tags.LONG, [height]),
        (258, tags.SHORT, [bits] * planes),
        (259, tags.SHORT, [_DEFLATE if packs else _UNCOMPRESSED]),
        (262, tags.SHORT, [_GREY if channels == 1 else _RGB]),
        (274, tags.SHORT, [1]),
        (277, tags.SHORT, [planes]),
        (278, tags.LONG, [strip_rows]),
        (284, tags.SHORT, [1]),
        (339, tags.SHORT, [1] * planes),
    ):
        directory.set(number, kind, *values)
    if packs:
        directory.set(317, tags.SHORT, _HORIZONTAL_DIFFERENCES)
    if has_alpha:
        directory.set(338, tags.SHORT, _STRAIGHT_ALPHA)
    return directory


def _add_metadata(directory: tags.Directory, metadata: Metadata) -> None:
    x, y = metadata.dpi or (_DPI_IF_UNKNOWN, _DPI_IF_UNKNOWN)
    directory.set_rational(282, x)
    directory.set_rational(283, y)
    directory.set(296, tags.SHORT, _INCH)
    if metadata.exif is not None:
        found = tags.from_exif(metadata.exif)
        for number, tag in found.tags.items():
            directory.tags.setdefault(number, tag)
        directory.below.update(found.below)
    if metadata.xmp is not None:
        directory.set_bytes(_XMP, tags.BYTE, metadata.xmp)
    if metadata.iptc is not None:
        directory.set_bytes(_IPTC, tags.UNDEFINED, metadata.iptc)
    if metadata.icc is not None:
        directory.set_bytes(_ICC, tags.UNDEFINED, metadata.icc)
