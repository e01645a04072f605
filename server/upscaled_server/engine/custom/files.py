"""Which files of the model folder are models of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from upscaled_server.engine.weights.files import TENSOR_FILES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file as it lay there when the folder was listed. `name` is the model's: the file's without its
    suffix."""

    name: str
    path: Path
    size_bytes: int
    changed_ns: int


def list_files(folder: Path | None, taken: Iterable[str]) -> Mapping[str, ModelFile]:
    """The files by model name, without those that stand for a model of the catalogue (`taken`: their stems).

    Empty where the folder cannot be read. Names that could not be typed into a request are left out.
    """
    if folder is None:
        return {}
    known = {stem.casefold() for stem in taken}
    found: dict[str, ModelFile] = {}
    try:
        entries = [path for path in folder.iterdir() if path.suffix in TENSOR_FILES]
    except OSError:
        return {}
    for path in sorted(entries, key=lambda path: (TENSOR_FILES.index(path.suffix), path.name)):
        if path.stem.casefold() in known or not _NAME.fullmatch(path.stem):
            continue
        try:
            stat = path.stat()
        except OSError:
            continue  # gone since it was listed
        if path.is_file():
            known.add(path.stem.casefold())
            found[path.stem] = ModelFile(path.stem, path, stat.st_size, stat.st_mtime_ns)
    return found
