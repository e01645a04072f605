"""A backup of a data folder, while its server runs or not.

Files come and go while they are copied. So the database is copied, then the files that it names; if some
of them went meanwhile, the database is copied again, which no longer names them, and what is new is added.
At the end the backup has one database and the files that it names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from upscaled._version import __version__
from upscaled_server.backup.contents import WAITING, Named, named_files
from upscaled_server.backup.files import (
    copy_file,
    difference,
    fingerprint,
    folder_of_files,
    missing_in_store,
    problem_of,
    write_file,
)
from upscaled_server.backup.manifest import DATABASE, FILES, NAME, Copied, Manifest, Missing, to_text
from upscaled_server.errors import FailedPrecondition
from upscaled_server.shared_state import DATABASE as STATE
from upscaled_server.state.copying import copy_database, read_copy
from upscaled_server.state.database import SCHEMA_VERSION
from upscaled_server.storage import disk
from upscaled_server.storage.settings import StorageSettings

# Each is shorter than the one before, as only what is new is copied.
_PASSES = 10


def take(
    data_dir: Path, settings: StorageSettings, target: Path, *, copied: Callable[[], None] = lambda: None
) -> Manifest:
    """Write a backup into `target`, a folder that is not there yet; it appears when it is whole.

    What `missing` names of the result could not be copied. `copied` is called after each copy of the
    database. Blocks. Raises `FailedPrecondition` for a folder that cannot be backed up or written to, and
    `ProcessingFailed` for a damaged database.
    """
    source = data_dir / STATE
    if not source.exists():
        raise FailedPrecondition(f"{data_dir} has no {STATE}: no server has kept anything there")
    unfinished = target.with_name(target.name + ".partial")
    for path in (target, unfinished):
        if path.exists():
            raise FailedPrecondition(f"{path} is there already; name another folder, or remove it")
    try:
        disk.make_folder(unfinished.absolute())
        try:
            manifest = _Backup(source, settings, data_dir, unfinished, copied).take()
            os.sync()
            unfinished.rename(target)
            disk.sync(target.absolute().parent)
        except BaseException:  # an interrupt too
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise FailedPrecondition(
            f"the backup cannot be written: {error.filename or target}: {error.strerror}", path=str(target)
        ) from None
    return manifest


@dataclass
class _Backup:
    """One backup on its way."""

    source: Path
    settings: StorageSettings
    data_dir: Path
    folder: Path
    copied: Callable[[], None]
    files: dict[str, Copied] = field(default_factory=dict)

    def take(self) -> Manifest:
        root = folder_of_files(self.settings, self.data_dir)
        names: list[Named] = []
        missing: list[Missing] = []
        for _ in range(_PASSES):
            self._copy_waiting(root)
            moment = datetime.now(UTC)
            copy_database(self.source, self.folder / DATABASE, lambda: self._copy_waiting(root))
            self.copied()
            names = named_files(read_copy(self.folder / DATABASE))
            before, missing = (
                missing,
                (missing_in_store(self.settings, names) if root is None else self._copy(root, names)),
            )
            # What was missing in the pass before as well is not there at all.
            if missing in ([], before):
                break
        self._drop_others(names)
        manifest = Manifest(
            __version__,
            SCHEMA_VERSION,
            moment.isoformat(timespec="milliseconds"),
            fingerprint(self.folder / DATABASE),
            dict(sorted(self.files.items())),
            external_files=root is None,
            missing=missing,
        )
        write_file(self.folder / NAME, to_text(manifest))
        return manifest

    def _copy_waiting(self, root: Path | None) -> None:
        """Images of jobs that have not ended go when the jobs end. So they come before the database, and
        those that came meanwhile at its moment."""
        if root is None:
            return
        for path in (root / WAITING).glob("*"):
            name = f"{WAITING}/{path.name}"
            # obstore writes beside the place, and renames.
            if name not in self.files and "#" not in path.name:
                self._copy_one(root, name)

    def _copy(self, root: Path, names: list[Named]) -> list[Missing]:
        """Copy what is not there yet; what could not be."""
        missing = []
        for each in names:
            found = self.files.get(each.path)
            if found is None or difference(each, found):
                found = self._copy_one(root, each.path)
            if problem := problem_of(each, found):
                missing.append(Missing(each.path, each.owner, problem))
        return missing

    def _copy_one(self, root: Path, name: str) -> Copied | None:
        try:
            self.files[name] = copy_file(root / name, self.folder / FILES / name)
        except FileNotFoundError:
            # An earlier copy of another content must not stand for it.
            self.files.pop(name, None)
            return None
        return self.files[name]

    def _drop_others(self, names: list[Named]) -> None:
        """Files that only an earlier copy of the database named."""
        wanted = {each.path for each in names}
        for name in [name for name in self.files if name not in wanted]:
            del self.files[name]
            (self.folder / FILES / name).unlink(missing_ok=True)
