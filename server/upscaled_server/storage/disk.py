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
    kept = 0
    oldest = time.time() - age_seconds
    for folder, _, names in os.walk(root, topdown=False):
        for path in (Path(folder, name) for name in names):
            found = path.stat()
            if _STAGED.fullmatch(path.name) and found.st_mtime <= oldest:
                path.unlink()
            else:
                kept += found.st_size
        if Path(folder) != root:
            with suppress(OSError):
                Path(folder).rmdir()
    return kept
