"""Threads that are there before there is work for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

_START_SECONDS = 60.0


def started_threads(count: int, name: str) -> ThreadPoolExecutor:
    """An executor that has all its threads from the beginning, so that nothing which is submitted fails for
    want of one, halfway through an image. Raises `RuntimeError` where so many cannot be had."""
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    all_there = threading.Barrier(count + 1, timeout=_START_SECONDS)
    try:
        for _ in range(count):
            executor.submit(all_there.wait)
        all_there.wait()
    except BaseException:
        all_there.abort()
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    return executor
