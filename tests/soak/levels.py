"""What a server and its children hold at a moment: what must not grow with the number of requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KEPT_BUFFERS = 16
"""Of pixels, for the next rows: eight, each open twice, as a mapping has a descriptor of its own
(`pool/pixels.py`)."""


@dataclass(frozen=True, slots=True)
class Levels:
    """`rss_bytes` and `processes` are of the server with its workers and decoders, `shared_files` those in
    /dev/shm of the whole machine, all else of the server's own process: `descriptors` without those of
    `buffers` of pixels, of which a few are kept for the next rows; `shared_memory_bytes` what is mapped of
    these."""

    rss_bytes: int
    server_rss_bytes: int
    descriptors: int
    buffers: int
    threads: int
    processes: int
    shared_files: int
    shared_memory_bytes: int

    @classmethod
    def of(cls, pid: int) -> Levels:
        tree = _tree(pid)
        opened = list(_opened(pid))
        buffers = sum("memfd:upscaled-pixels" in each for each in opened)
        return cls(
            rss_bytes=sum(_status_bytes(each, "VmRSS") for each in tree),
            server_rss_bytes=_status_bytes(pid, "VmRSS"),
            descriptors=len(opened) - buffers,
            buffers=buffers,
            threads=_count(f"/proc/{pid}/task"),
            processes=len(tree),
            shared_files=_count("/dev/shm"),
            shared_memory_bytes=_status_bytes(pid, "RssShmem"),
        )


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # ended meanwhile
            for child in task.read_text().split():
                found += _tree(int(child))
    return found


def _opened(pid: int) -> Iterator[str]:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            yield str(each.readlink())


def _status_bytes(pid: int, name: str) -> int:
    """A line of the process's status; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())
