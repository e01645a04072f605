"""A data folder from a backup."""

from __future__ import annotations

import os
import time
from pathlib import Path

from upscaled_server.backup.contents import Named, named_files
from upscaled_server.backup.files import copy_file, difference, folder_of_files, missing_in_store
from upscaled_server.backup.manifest import DATABASE, FILES, Manifest, Missing, read_manifest
from upscaled_server.errors import FailedPrecondition
from upscaled_server.shared_state import DATABASE as STATE
from upscaled_server.state.copying import read_copy
from upscaled_server.state.database import open_database
from upscaled_server.state.folder import DataFolder
from upscaled_server.state.mark import mark_path
from upscaled_server.storage import disk
from upscaled_server.storage.settings import StorageSettings


def restore(backup: Path, data_dir: Path, settings: StorageSettings) -> tuple[Manifest, list[Missing]]:
    """Put a backup into a data folder that has no state yet; also what it has of which the files are missing.

    The database appears last, so what was cut off can be done again. Blocks. Raises `FailedPrecondition`
    where there is state, a server uses the folder, the backup is damaged or of a newer version, or nothing
    can be written.
    """
    manifest = read_manifest(backup)
    with DataFolder(data_dir):
        state = data_dir / STATE
        for path in (state, state.with_name(f"{STATE}-wal"), mark_path(state)):
            if path.exists():
                raise FailedPrecondition(
                    f"{path} is there already; restore into another folder, or move it away", path=str(path)
                )
        try:
            return manifest, _restore(backup, manifest, data_dir, settings)
        except OSError as error:
            raise FailedPrecondition(
                f"the backup cannot be restored: {error.filename or data_dir}: {error.strerror}",
                path=str(data_dir),
            ) from None


def _restore(backup: Path, manifest: Manifest, data_dir: Path, settings: StorageSettings) -> list[Missing]:
    database = data_dir / f"{STATE}.restoring"
    try:
        if copy_file(backup / DATABASE, database) != manifest.database:
            raise FailedPrecondition(
                f"{backup / DATABASE} is damaged: it is not what the manifest says", path=str(backup)
            )
        # Refuses a newer schema; an older one is brought to this version's here, not in the backup.
        open_database(database).close()
        names = named_files(read_copy(database))
        root = folder_of_files(settings, data_dir)
        missing = missing_in_store(settings, names) if root is None else _copy(backup, manifest, root, names)
        os.sync()
        database.rename(data_dir / STATE)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(os.fspath(database) + suffix).unlink(missing_ok=True)
    disk.sync(data_dir)
    return missing


def _copy(backup: Path, manifest: Manifest, root: Path, names: list[Named]) -> list[Missing]:
    missing = []
    for each in names:
        if problem := _copy_one(backup / FILES, manifest, root, each):
            (root / each.path).unlink(missing_ok=True)
            missing.append(Missing(each.path, each.owner, problem))
    return missing


def _copy_one(files: Path, manifest: Manifest, root: Path, named: Named) -> str:
    """What is wrong with a file of the backup; empty if it is there now, or its time is over."""
    if named.expires <= time.time():
        return ""  # it would be deleted at once
    if (written := manifest.files.get(named.path)) is None:
        return "is not in the backup"
    try:
        found = copy_file(files / named.path, root / named.path)
    except FileNotFoundError:
        return "is not in the backup"
    if found != written:
        return "is damaged in the backup"
    return difference(named, found)
