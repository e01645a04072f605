"""`upscaled backup` and `upscaled restore`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscaled_server.commands.messages import needing_the_extra, plain_errors
from upscaled_server.errors import FailedPrecondition

if TYPE_CHECKING:
    from upscaled_server.backup.manifest import Manifest, Missing
    from upscaled_server.storage.settings import StorageSettings

# More would push what matters off the screen; the manifest has all of them.
_SHOWN = 20

DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Data folder of the server; default: UPSCALED_DATA_DIR.")
]


def backup(
    target: Annotated[Path, typer.Argument(help="Folder to write the backup into; it must not be there.")],
    data_dir: DataDirOption = None,
) -> None:
    """Back up a data folder while its server runs, or not: the database of one moment, and the files that it
    names.

    Files in an object store are not copied, only looked for. The exit status is 1 if files that the
    database names are not there.
    """
    with needing_the_extra("a backup"):
        from upscaled_server.backup.taking import take
    with plain_errors():
        folder, storage = _settings(data_dir)
        manifest = take(folder, storage, target)
    _finish(f"{target}: {_summary(manifest)}", manifest.missing)


def restore(
    source: Annotated[Path, typer.Argument(help="Folder that `upscaled backup` wrote.")],
    data_dir: DataDirOption = None,
) -> None:
    """Put a backup into a data folder that has no state yet. No server may run there.

    The exit status is 1 if files that the database names are missing; everything else is restored then.
    """
    with needing_the_extra("restoring"):
        from upscaled_server.backup.restoring import restore as put_back
    with plain_errors():
        folder, storage = _settings(data_dir)
        manifest, missing = put_back(source, folder, storage)
    _finish(f"{folder}: {_summary(manifest)}", missing)


def _settings(data_dir: Path | None) -> tuple[Path, StorageSettings]:
    from upscaled_server import app
    from upscaled_server.settings import Settings
    from upscaled_server.state.folder import StateSettings
    from upscaled_server.state.nats.settings import ClusterSettings
    from upscaled_server.storage.settings import StorageSettings

    variables = {} if data_dir is None else {"UPSCALED_DATA_DIR": str(data_dir)}
    settings = Settings(app.SETTINGS, os.environ | variables)
    if settings[ClusterSettings].cluster_url:
        raise FailedPrecondition(
            "UPSCALED_CLUSTER_URL: the state is in NATS, not in a folder; copy it with NATS's own tool, "
            "`nats account backup`, and the files with the object store's"
        )
    return settings[StateSettings].data_dir, settings[StorageSettings]


def _summary(manifest: Manifest) -> str:
    files = "files in the object store"
    if not manifest.external_files:
        size = sum(each.size_bytes for each in manifest.files.values())
        files = f"files: {len(manifest.files)} ({size / 1e6:.1f} MB)"
    return f"as of {manifest.time}, schema {manifest.schema}, {files}"


def _finish(done: str, missing: list[Missing]) -> None:
    typer.echo(done)
    for each in missing[:_SHOWN]:
        typer.echo(f"upscaled: {each.owner}: {each.path} {each.problem}", err=True)
    if len(missing) > _SHOWN:
        typer.echo(f"upscaled: … and {len(missing) - _SHOWN} more", err=True)
    if missing:
        raise typer.Exit(1)
