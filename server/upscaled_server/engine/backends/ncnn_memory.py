"""Memory for ncnn that is used again and again, in pools that are lent.

A `Mat` of a pool, and an array that views one, knows the pool by its address alone and gives its memory back
when the last reference goes, which can be long after the network has gone: a step that failed is held by its
traceback until the garbage collector finds it, in any thread. So pools are never destroyed. One that was
given back goes to the next borrower, together with what comes back to it later.
"""

from __future__ import annotations

import ctypes
from typing import Any

# Of a block of a pool, to be given.
_WANTED_SHARE = 0.5

# Without a lock: it would be needed in the garbage collector too, and each of these calls is one.
_unused: list[Any] = []


def borrow_pool() -> Any:
    """A pool of ncnn for several threads; unlike ncnn's own it gives no block of which less than half is
    wanted. `give_back_pool` it."""
    import ncnn

    try:
        return _unused.pop()
    except IndexError:
        pass
    pool = ncnn.PoolAllocator()
    pool.set_size_compare_ratio(_WANTED_SHARE)
    # Not even when the interpreter ends, which takes modules apart in an order of its own.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))
    return pool


def give_back_pool(pool: Any) -> None:
    """Frees what is not in use. What is goes back to the pool when it is let go of."""
    _unused.append(pool)
    for each in tuple(_unused):
        each.clear()
