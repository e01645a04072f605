"""A server to measure, and the memory of it and all its children."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class MeasuredServer:
    """A server on a free port. `start_seconds` is from process start to SERVING."""

    address: str
    pid: int
    start_seconds: float


@contextmanager
def measured_server(**environ: str) -> Iterator[MeasuredServer]:
    with tempfile.TemporaryDirectory(prefix="upscaled-bench-") as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "upscaled", "serve", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "UPSCALED_DATA_DIR": folder, "UPSCALED_LOG_LEVEL": "warning", **environ},
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "listening on " not in line:
                raise RuntimeError("the server did not start")
            yield MeasuredServer(line.rpartition(" ")[2].strip(), process.pid, time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(60)


class MemoryWatch:
    """Samples the proportional set size of processes while it is entered; `peak_bytes` of each, and of
    all together.

    Proportional: a page that several processes share counts once, divided among them.
    """

    def __init__(self, root: int, *, include_root: bool = True) -> None:
        self._root = root
        self._include_root = include_root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            total = sum(_pss(pid) for pid in _tree(self._root))
            self.peak_bytes = max(self.peak_bytes, total)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
