"""How much memory a server took at most, its workers and decoders included."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY_SECONDS = 0.05


def rss_bytes(pid: int) -> int:
    """Of a process and its children; those that end meanwhile count as nothing."""
    return sum(_own_rss_bytes(each) for each in _tree(pid))


def pss_bytes(pid: int) -> int:
    """As `rss_bytes`, but pages that they share count once."""
    return sum(_own_pss_bytes(each) for each in _tree(pid))


def decoders_pss_bytes(pid: int) -> int:
    """Of that, what its processes that decode have."""
    return sum(_own_pss_bytes(each) for each in _tree(pid) if b".codec." in _command(each))


class PeakRss:
    """Watches a process and its children while the context lasts. `before_bytes` is what they had at its
    beginning, `bytes` the most they had at once, by RSS or another `measure`."""

    def __init__(self, pid: int, measure: Callable[[int], int] = rss_bytes) -> None:
        self._pid = pid
        self._measure = measure
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak RSS")
        self.before_bytes = self.bytes = measure(pid)

    @property
    def growth_bytes(self) -> int:
        return self.bytes - self.before_bytes

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self.bytes = max(self.bytes, self._measure(self._pid))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += _tree(int(child))
    return found


def _own_rss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def _own_pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
