"""Memory for ncnn that is used again and again: one pool for all networks of the process.

A `Mat` of a pool, and an array that views one, knows the pool by its address alone and gives its memory back
when the last reference goes, which can be long after the network has gone: a step that failed is held by its
traceback until the garbage collector finds it, in any thread. So the pool is never destroyed.

It keeps what was given back, and hands a block out again where at least half of it is wanted. What it keeps
is therefore that of every size of image that was computed; see `working_memory`, which has it released.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

# Of a block, to be given.
_WANTED_SHARE = 0.5


@functools.cache
def pool() -> Any:
    """For any number of threads."""
    import ncnn

    allocator = ncnn.PoolAllocator()
    allocator.set_size_compare_ratio(_WANTED_SHARE)
    # Not even when the interpreter ends, which takes modules apart in an order of its own.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(allocator))
    return allocator


def release() -> None:
    """Give back to the system what nothing uses."""
    if pool.cache_info().currsize:
        pool().clear()
    # Smaller blocks would stay in the heap. Other C libraries than glibc do not have it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
