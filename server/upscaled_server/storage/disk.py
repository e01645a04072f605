"""What a local folder needs besides obstore: changes that survive power loss, and no left-overs.

obstore writes a file beside its place, as NAME#NUMBER, and renames it when it is whole. It leaves that file
behind when the process is killed, and syncs nothing.
"""

from __future__ import annotations

import errno
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


def sync_with_folders(path: Path, highest: Path) -> None:
    """`sync` a file, and the folders that lead to it from `highest`, in which any may be new. Blocks."""
    sync(path)
    for folder in path.parents:
        sync(folder)
        if folder == highest:
            return


def remove_folder(folder: Path) -> None:
    """Remove an empty folder, for good; that there is none, or that it is not empty, is fine. Blocks."""
    with suppress(OSError):
        folder.rmdir()
    if folder.parent.is_dir():
        sync(folder.parent)


def remove_empty_parent(path: Path, root: Path) -> bool:
    """Remove the folder of a file that is gone, if it is empty and no top folder of `root`; whether that was
    so. Blocks."""
    if path.parent.parent in (root, root.parent):
        return False
    try:
        path.parent.rmdir()
    except OSError:
        return False
    return True


def sync_removed(path: Path, root: Path) -> None:
    """Return when it is on the disk that a file is gone; its folder goes too if nothing else is in it, unless
    it is a top folder of `root`. Blocks."""
    gone = remove_empty_parent(path, root)
    with suppress(FileNotFoundError):
        sync(path.parent.parent if gone else path.parent)


def sweep(root: Path, age_seconds: float) -> int:
    """Remove what a killed process was writing, if it is of this age, and empty folders; how many bytes the
    other files have. Blocks."""
    return _sweep(str(root), time.time() - age_seconds)[0]


def _sweep(folder: str, newest: float) -> tuple[int, bool]:
    """The bytes below a folder, and whether it is empty now. Plain names: there may be 100,000 of them."""
    kept, is_empty = 0, True
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                size, goes = _sweep_entry(entry, newest)
            except FileNotFoundError:
                size, goes = 0, True  # another server removed it
            kept += size
            is_empty = is_empty and goes
    return kept, is_empty


def _sweep_entry(entry: os.DirEntry[str], newest: float) -> tuple[int, bool]:
    """The bytes that stay, and whether nothing does."""
    if entry.is_dir(follow_symlinks=False):
        size, goes = _sweep(entry.path, newest)
        if goes:
            try:
                Path(entry.path).rmdir()
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                goes = False  # another server has put something there
        return size, goes
    found = entry.stat(follow_symlinks=False)
    if "#" in entry.name and found.st_mtime <= newest and _STAGED.fullmatch(entry.name):
        Path(entry.path).unlink()
        return 0, True
    return found.st_size, False
