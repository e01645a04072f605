"""Memory of a process and its children, as the kernel counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes_of(pid: int) -> int:
    """Those that have just ended count nothing. Where the kernel lists no children, of the process alone."""
    children = ""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return sum(resident_bytes_of_one(each) for each in [str(pid), *children.split()])


def resident_bytes_of_one(pid: int | str) -> int:
    """0 where there is no such process any more."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
