"""Copying files, with what tells later whether they are right."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import obstore

from upscaled_server.backup.contents import Named
from upscaled_server.backup.manifest import Copied, Missing
from upscaled_server.storage import disk
from upscaled_server.storage.blobs import local_root, make_store
from upscaled_server.storage.failures import translated
from upscaled_server.storage.settings import StorageSettings

_PIECE_BYTES = 1 << 20


def copy_file(source: Path, target: Path) -> Copied:
    """Copy one file. Blocks. Raises OSError; nothing is left of a copy that failed.

    It survives power loss from the next `os.sync` on: one for all files costs less than one for each.
    """
    with source.open("rb") as reading:
        disk.make_folder(target.parent)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        found = hashlib.sha256()
        size = 0
        try:
            with os.fdopen(descriptor, "wb") as writing:
                while piece := reading.read(_PIECE_BYTES):
                    writing.write(piece)
                    found.update(piece)
                    size += len(piece)
        except BaseException:  # an interrupt too
            target.unlink(missing_ok=True)
            raise
    return Copied(size, found.hexdigest())


def fingerprint(path: Path) -> Copied:
    """Size and SHA-256 of a file. Blocks."""
    with path.open("rb") as file:
        return Copied(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_file(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
        writing.write(text)


def problem_of(expected: Named, found: Copied | None) -> str:
    """What is wrong with a file, None for one that is not there; empty if nothing is, or if its time was
    over."""
    if found is None:
        return "is not there" if expected.expires > time.time() else ""
    return difference(expected, found)


def difference(expected: Named, found: Copied) -> str:
    """What is wrong with a file; empty if nothing is."""
    if expected.size_bytes is not None and expected.size_bytes != found.size_bytes:
        return f"has {found.size_bytes} bytes in place of {expected.size_bytes}"
    if expected.sha256 and found.sha256 and expected.sha256 != found.sha256:
        return "is damaged: its SHA-256 is not the one written down"
    return ""


def folder_of_files(settings: StorageSettings, data_dir: Path) -> Path | None:
    """Where `UPSCALED_BLOBS_URL` keeps files; None for an object store."""
    return local_root(settings.blobs_url, data_dir)


def missing_in_store(settings: StorageSettings, names: Iterable[Named]) -> list[Missing]:
    """What is not in the object store as it should be, by the sizes that it lists; bytes are not read.

    Blocks. Raises `Unavailable`.
    """
    with translated("the list of files"):
        pages = obstore.list(make_store(settings.blobs_url, None))
        sizes = {each["path"]: each["size"] for page in pages for each in page}
    missing = []
    for each in names:
        size = sizes.get(each.path)
        if problem := problem_of(each, None if size is None else Copied(size, "")):
            missing.append(Missing(each.path, each.owner, problem))
    return missing
