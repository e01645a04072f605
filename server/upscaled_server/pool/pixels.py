"""Rows of pixels from one process to another, through memory that no crash can leak.

The sender copies rows into a memfd and sends its descriptor; the receiver maps it, and gets an array that is
a view of the mapping. The last close frees the memory, whichever process dies, and a pod's small /dev/shm
plays no part.

The pages of a fresh memfd cost far more than the copy (30 MB: 23 ms against 2 ms), so buffers are used again
once the receiver's array is gone. Each process has a shelf of them for what it sends.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.errors import ProcessingFailed
from upscaled_server.pool.transport import Message

KEEP_BYTES = 128 << 20
"""Free buffers that a shelf keeps for the next rows. What is on its way or in use comes on top."""

_KEEP_BUFFERS = 8
_GRAIN_BYTES = 1 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}


@dataclass(slots=True)
class _Buffer:
    number: int
    fd: int
    size: int
    memory: NDArray[np.uint8]

    def close(self) -> None:
        # The mapping goes with its last array.
        self.memory = np.empty(0, np.uint8)
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
        self._free: list[_Buffer] = []
        self._away: dict[int, _Buffer] = {}
        self._count = 0
        self._closed = False

    @property
    def away(self) -> int:
        """Buffers that a receiver still reads."""
        return len(self._away)

    def pack(self, rows: NDArray[Any]) -> Parcel:
        """Copy rows, uint8 or uint16 of any shape, into a buffer. It stays in use until `take_back`."""
        described: Message = {"shape": list(rows.shape), "dtype": rows.dtype.name}
        if rows.nbytes == 0:
            return Parcel(described, None)
        buffer = self._take(rows.nbytes)
        try:
            target = buffer.memory[: rows.nbytes].view(rows.dtype).reshape(rows.shape)
            np.copyto(target, rows)
        except BaseException:  # an interrupt too
            self.take_back(buffer.number)
            raise
        return Parcel({**described, "buffer": buffer.number}, buffer.fd)

    def take_back(self, number: int) -> None:
        """The receiver's array is gone, or the parcel was never sent. Unknown numbers are ignored."""
        with self._lock:
            buffer = self._away.pop(number, None)
            if buffer is None:
                return
            if self._closed:
                buffer.close()
                return
            self._free.append(buffer)
            while len(self._free) > _KEEP_BUFFERS or sum(each.size for each in self._free) > self._keep_bytes:
                self._free.pop(0).close()

    def close(self) -> None:
        """Free every buffer; those that a receiver still has mapped go when it lets go."""
        with self._lock:
            self._closed = True
            for buffer in [*self._free, *self._away.values()]:
                buffer.close()
            self._free.clear()
            self._away.clear()

    def _take(self, size: int) -> _Buffer:
        with self._lock:
            if self._closed:
                raise ProcessingFailed("the shelf of buffers is closed")
            self._count += 1
            number = self._count
            # Half empty is fine, mostly empty would keep large buffers busy with small rows.
            fitting = [each for each in self._free if size <= each.size <= 4 * max(size, _GRAIN_BYTES)]
            if fitting:
                buffer = min(fitting, key=lambda each: each.size)
                self._free.remove(buffer)
                buffer.number = number
            else:
                buffer = _new_buffer(number, size)
            self._away[number] = buffer
            return buffer


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
        # Sealed against shrinking, so what is there now stays: no SIGBUS while reading.
        if os.fstat(fd).st_size < size:
            raise ValueError("the buffer is smaller than the rows")
        number = int(described["buffer"])
        mapping = mmap.mmap(fd, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ProcessingFailed(f"rows that do not add up: {error}") from error
    finally:
        if fd is not None:
            os.close(fd)
    weakref.finalize(mapping, on_freed, number).atexit = False
    return np.frombuffer(mapping, dtype).reshape(shape)


def _new_buffer(number: int, size: int) -> _Buffer:
    size = math.ceil(size / _GRAIN_BYTES) * _GRAIN_BYTES
    fd = os.memfd_create("upscaled-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        memory = np.frombuffer(mmap.mmap(fd, size), np.uint8)
    except BaseException:  # an interrupt too
        os.close(fd)
        raise
    return _Buffer(number, fd, size, memory)
