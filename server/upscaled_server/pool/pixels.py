"""Rows of pixels from one process to another, through memory that no crash can leak.

The sender has rows in a memfd and sends its descriptor; the receiver maps it, and gets an array that is a
view of the mapping. The last close frees the memory, whichever process dies, and a pod's small /dev/shm plays
no part.

The pages of a fresh memfd cost far more than a copy into old ones (30 MB: 23 ms against 2 ms), so buffers are
used again once the arrays of both sides are gone. Each process has a shelf of them for what it sends. Rows
that are written into an array of the shelf's are sent without a copy.
"""

from __future__ import annotations

import errno
import fcntl
import math
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from upscaled_server.errors import ProcessingFailed
from upscaled_server.pool.transport import Message

KEEP_BYTES = 128 << 20
"""Free buffers that a shelf keeps for the next rows. What is on its way or in use comes on top."""

_KEEP_BUFFERS = 8
_GRAIN_BYTES = 1 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}


@dataclass(eq=False, slots=True)
class _Buffer:
    """`uses`: by an array of the sender's, and by receivers. The mapping goes with its last array."""

    fd: int
    size: int
    mapping: mmap.mmap
    uses: int = 0

    def close(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Rows in a buffer: `described` goes into the message, `fd` (None for zero rows) with it."""

    described: Message
    fd: int | None


class Shelf:
    """The buffers of one sender. Thread-safe."""

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._all: set[_Buffer] = set()
        self._free: list[_Buffer] = []
        self._away: dict[int, _Buffer] = {}
        # By the identity of the array that all views of a buffer have as their base.
        self._lent: dict[int, _Buffer] = {}
        # Whose array is gone. Finalisers run in the middle of anything, so they take no lock.
        self._dropped: deque[_Buffer] = deque()
        self._count = 0
        self._closed = False

    @property
    def away(self) -> int:
        """Parcels that a receiver still reads."""
        return len(self._away)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """As `np.empty`, in a buffer: `pack` sends such an array, and contiguous views of it, without a copy.

        Raises `MemoryError`, and `ProcessingFailed` when the shelf is closed.
        """
        dtype, count = np.dtype(dtype), math.prod(shape)
        if count == 0:
            return np.empty(shape, dtype)
        buffer = self._take(count * dtype.itemsize)
        try:
            base = np.frombuffer(buffer.mapping, dtype, count)
            weakref.finalize(base, self._drop, id(base), buffer).atexit = False
        except BaseException:  # an interrupt too
            self._dropped.append(buffer)
            raise
        self._lent[id(base)] = buffer
        return base.reshape(shape)

    def holds(self, rows: NDArray[Any]) -> bool:
        """Whether `pack` need not copy them."""
        return id(rows.base) in self._lent and rows.flags.c_contiguous

    def pack(self, rows: NDArray[Any]) -> Parcel:
        """Rows, uint8 or uint16 of any shape, in a buffer, which stays in use until `take_back`. Until then
        rows of `empty` must not be changed; others are copied.
        """
        described: Message = {"shape": list(rows.shape), "dtype": rows.dtype.name}
        if rows.nbytes == 0:
            return Parcel(described, None)
        if not self.holds(rows):
            copy = self.empty(rows.shape, rows.dtype)
            np.copyto(copy, rows)
            rows = copy
        offset = _address(rows) - _address(rows.base)
        with self._lock:
            buffer = self._lent[id(rows.base)]
            if self._closed:
                raise ProcessingFailed("the shelf of buffers is closed")
            self._count += 1
            number = self._count
            self._away[number] = buffer
            buffer.uses += 1
        return Parcel({**described, "buffer": number, "offset": offset}, buffer.fd)

    def take_back(self, number: int) -> None:
        """The receiver's array is gone, or the parcel was never sent. Unknown numbers are ignored."""
        with self._lock:
            buffer = self._away.pop(number, None)
            if buffer is not None:
                self._end_use(buffer)
            self._take_dropped()

    def trim(self) -> None:
        """Take back the buffers of arrays that are gone and were not sent, as every other call does too."""
        with self._lock:
            self._take_dropped()

    def close(self) -> None:
        """Free every buffer; those that somebody still has mapped go when they let go."""
        with self._lock:
            self._closed = True
            for buffer in self._all:
                buffer.close()
            self._all.clear()
            self._free.clear()
            self._away.clear()
            self._dropped.clear()

    def _take(self, size: int) -> _Buffer:
        with self._lock:
            if self._closed:
                raise ProcessingFailed("the shelf of buffers is closed")
            self._take_dropped()
            # Half empty is fine, mostly empty would keep large buffers busy with small rows.
            fitting = [each for each in self._free if size <= each.size <= 4 * max(size, _GRAIN_BYTES)]
            if fitting:
                buffer = min(fitting, key=lambda each: each.size)
                self._free.remove(buffer)
            else:
                buffer = _new_buffer(size)
                self._all.add(buffer)
            buffer.uses = 1
            return buffer

    def _drop(self, base: int, buffer: _Buffer) -> None:
        self._lent.pop(base, None)
        if not self._closed:
            self._dropped.append(buffer)

    def _take_dropped(self) -> None:
        while self._dropped:
            self._end_use(self._dropped.popleft())

    def _end_use(self, buffer: _Buffer) -> None:
        buffer.uses -= 1
        if buffer.uses or self._closed:
            return
        self._free.append(buffer)
        while len(self._free) > _KEEP_BUFFERS or sum(each.size for each in self._free) > self._keep_bytes:
            oldest = self._free.pop(0)
            self._all.remove(oldest)
            oldest.close()


def unpack(described: Message, fd: int | None, on_freed: Callable[[int], None]) -> NDArray[Any]:
    """The rows of a parcel: a read-only array over the mapping. Closes `fd`.

    `on_freed(buffer)` is called, in whichever thread that happens, when the array and all views of it are
    gone. Raises `ProcessingFailed` for a parcel that does not add up.
    """
    try:
        dtype = _DTYPES[described["dtype"]]
        shape = tuple(int(side) for side in described["shape"])
        size = math.prod(shape) * dtype.itemsize
        if min(shape) < 0 or (fd is None) != (size == 0):
            raise ValueError(f"shape {shape} and {'no ' if fd is None else ''}buffer")
        if fd is None:
            return np.empty(shape, dtype)
        number, offset = int(described["buffer"]), int(described["offset"])
        # Sealed against shrinking, so what is there now stays: no SIGBUS while reading.
        if offset < 0 or os.fstat(fd).st_size < offset + size:
            raise ValueError(f"{size} bytes from {offset} on are more than the buffer has")
        mapping = mmap.mmap(fd, offset + size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ProcessingFailed(f"rows that do not add up: {error}") from error
    finally:
        if fd is not None:
            os.close(fd)
    weakref.finalize(mapping, on_freed, number).atexit = False
    return np.frombuffer(mapping, dtype, offset=offset).reshape(shape)


def _new_buffer(size: int) -> _Buffer:
    size = math.ceil(size / _GRAIN_BYTES) * _GRAIN_BYTES
    try:
        fd = os.memfd_create("upscaled-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return _Buffer(fd, size, mmap.mmap(fd, size))
        except BaseException:  # an interrupt too
            os.close(fd)
            raise
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"no memory for {size} bytes of pixels") from error
        raise


def _address(rows: Any) -> int:
    return int(rows.__array_interface__["data"][0])
