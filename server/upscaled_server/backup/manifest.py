"""What is in a backup."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from upscaled_server.errors import FailedPrecondition

NAME = "manifest.json"
DATABASE = "state.db"
FILES = "files"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Copied:
    """A file that was copied; `sha256` hexadecimal."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that the database names and that is not there as it should be."""

    path: str
    owner: str
    problem: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`time`: RFC 3339, UTC, the moment of the database. `external_files`: files are kept in an object store,
    and are not in the backup."""

    version: str
    schema: int
    time: str
    database: Copied
    files: Mapping[str, Copied]
    external_files: bool = False
    missing: list[Missing] = field(default_factory=list)
    format: int = FORMAT


_MANIFEST = TypeAdapter(Manifest)


def to_text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=1) + "\n"


def read_manifest(backup: Path) -> Manifest:
    """Raises `FailedPrecondition` for a folder that is no backup, or one of a format of later versions."""
    try:
        manifest = _MANIFEST.validate_json((backup / NAME).read_bytes())
    except OSError as error:
        raise FailedPrecondition(
            f"{backup} is not a backup: {NAME} cannot be read: {error.strerror}", path=str(backup)
        ) from None
    except ValidationError as error:
        raise FailedPrecondition(
            f"{backup} is not a backup: {NAME} is damaged ({error.error_count()} values)", path=str(backup)
        ) from None
    if manifest.format != FORMAT:
        raise FailedPrecondition(
            f"{backup} has format {manifest.format}, and this version reads {FORMAT}; restore it with "
            f"version {manifest.version}",
            path=str(backup),
        )
    return manifest
