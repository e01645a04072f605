"""Memory for ncnn that is used again and again: a pool for each thread that computes, whatever the network.

Threads do not share one, since a block that was written by another core is still in that core's caches.
Where the two share no third level, as on processors of several chiplets, fetching it from there made a step
of two threads take nearly twice as long.

A `Mat` of a pool, and an array that views one, knows the pool by its address alone and gives its memory back
when the last reference goes, which can be long after the network or the thread has gone: a step that failed
is held by its traceback until the garbage collector finds it, in any thread. So pools are never destroyed;
those of threads that have ended serve new ones.

They keep what was given back, and hand a block out again where at least half of it is wanted. What they keep
is therefore that of every size of image that was computed; see `working_memory`, which has it released.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from typing import Any

# Of a block, to be given.
_WANTED_SHARE = 0.5

# Every pool; and those that no thread has. Both are changed in single steps.
_pools: deque[Any] = deque()
_idle: deque[Any] = deque()
_of_thread = threading.local()


def pool() -> Any:
    """The calling thread's; any thread may give back what is of it."""
    borrowed: _Borrowed | None = getattr(_of_thread, "borrowed", None)
    if borrowed is None:
        borrowed = _of_thread.borrowed = _Borrowed()
    return borrowed.pool


def release() -> None:
    """Give back to the system what nothing uses."""
    for each in list(_pools):
        each.clear()
    # Smaller blocks would stay in the heap. Other C libraries than glibc do not have it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Borrowed:
    """A pool, until the thread that has it ends."""

    def __init__(self) -> None:
        try:
            self.pool = _idle.pop()
        except IndexError:
            self.pool = _new_pool()
            _pools.append(self.pool)
        self._give_back = _idle.append  # the module's names may be gone before the last thread is

    def __del__(self) -> None:
        self._give_back(self.pool)


def _new_pool() -> Any:
    import ncnn

    allocator = ncnn.PoolAllocator()
    allocator.set_size_compare_ratio(_WANTED_SHARE)
    # Not even when the interpreter ends, which takes modules apart in an order of its own.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(allocator))
    return allocator
