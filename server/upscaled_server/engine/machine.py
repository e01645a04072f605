"""How many cores and how much memory this process may use: affinity, cgroup v1 and v2, and the machine
itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# cgroup v1 writes "no limit" as the largest multiple of the page size.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class _Mount:
    controllers: frozenset[str]
    root: str
    point: Path
    unified: bool


def usable_cores(proc: Path = Path("/proc")) -> int:
    """Whole cores: the affinity mask, cut to the smallest CPU quota of the cgroup and those above it. At
    least 1.
    """
    cores = float(len(os.sched_getaffinity(0)))
    for folder, unified in _folders("cpu", proc):
        if unified:
            words = _read(folder / "cpu.max").split()
            quota, period = (words[0], words[1]) if len(words) == 2 else ("max", "")
        else:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))


def usable_memory(proc: Path = Path("/proc")) -> int:
    """Bytes: the machine's memory, cut to the smallest limit of the cgroup and those above it."""
    memory = _NO_LIMIT
    for line in _read(proc / "meminfo").splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
            break
    for folder, unified in _folders("memory", proc):
        limit = _read(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            memory = min(memory, int(limit))
    return memory


def _folders(controller: str, proc: Path) -> Iterator[tuple[Path, bool]]:
    """This process's cgroup folder for a controller and every one above it, up to the mount point."""
    mounts = list(_mounts(proc))
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        unified = names == ""
        for mount in mounts:
            if mount.unified != unified or (not unified and controller not in mount.controllers):
                continue
            if not unified and controller not in names.split(","):
                continue
            # Inside a container without a cgroup namespace the path is the host's and the mount shows only a
            # part.
            relative = path[len(mount.root) :] if path.startswith(mount.root) else ""
            folder = mount.point / relative.strip("/")
            if not folder.is_dir():
                folder = mount.point
            while True:
                yield folder, unified
                if folder == mount.point:
                    break
                folder = folder.parent


def _mounts(proc: Path) -> Iterator[_Mount]:
    for line in _read(proc / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        yield _Mount(
            frozenset(kind[2].split(",")), fields[3].rstrip("/"), Path(fields[4]), kind[0] == "cgroup2"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
