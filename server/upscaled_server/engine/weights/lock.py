"""A lock between processes (and threads) on one machine, which ends with whoever holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.1


@contextmanager
def file_lock(path: Path, deadline: float) -> Iterator[None]:
    """Hold an exclusive flock on `path`. Raises `TimeoutError` if it is not free by `deadline` (monotonic
    seconds).

    The file stays: removing it would let a third process lock another file of the same name.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} is held by another process") from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
