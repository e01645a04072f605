"""What a local folder needs besides obstore: changes that survive power loss, and no left-overs.

obstore writes a file beside its place, as NAME#NUMBER, and renames it when it is whole. It leaves that file
behind when the process is killed, and syncs nothing.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

_STAGED = re.compile(r".+#\d+")


def make_folder(folder: Path) -> None:
    """Make a folder that is there after power loss. Blocks."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, are on the disk. Blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_with_folders(path: Path, root: Path) -> None:
    """`sync` a file, and the folders that lead to it from `root`, which may be new. Blocks."""
    sync(path)
    for folder in path.parents:
        sync(folder)
        if folder == root:
            return


def remove_folder(folder: Path) -> None:
    """Remove an empty folder, for good; that there is none, or that it is not empty, is fine. Blocks."""
    with suppress(OSError):
        folder.rmdir()
    if folder.parent.is_dir():
        sync(folder.parent)


def sweep(root: Path, age_seconds: float) -> int:
    """Remove what a killed process was writing, if it is of this age, and empty folders; how many bytes the
    other files have. Blocks."""
    return _sweep(str(root), time.time() - age_seconds)[0]


def _sweep(folder: str, newest: float) -> tuple[int, bool]:
    """The bytes below a folder, and whether it is empty now. Plain names: there may be 100,000 of them."""
    kept, is_empty = 0, True
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                size, goes = _sweep(entry.path, newest)
                if goes:
                    Path(entry.path).rmdir()
            else:
                found = entry.stat(follow_symlinks=False)
                size = found.st_size
                goes = "#" in entry.name and found.st_mtime <= newest and bool(_STAGED.fullmatch(entry.name))
                if goes:
                    Path(entry.path).unlink()
                    size = 0
            kept += size
            is_empty = is_empty and goes
    return kept, is_empty
