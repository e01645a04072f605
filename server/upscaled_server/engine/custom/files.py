"""Which files of the model folder are models of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from upscaled_server.engine.weights.files import TENSOR_FILES

_MAX_MODELS = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_BAD_NAME = "requests cannot name it: a name has 1 to 80 letters, digits and ._+-, the first no sign"

_CONVERT = "this format cannot be read; convert it to .safetensors or .pth"
_OTHERS = {".param": "ncnn's files are read for the models of the catalogue alone"} | dict.fromkeys(
    (".onnx", ".engine", ".trt", ".tflite", ".pb", ".h5", ".keras", ".mlmodel", ".gguf"), _CONVERT
)
_LOOKED_AT = (*TENSOR_FILES, *_OTHERS)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file as it lay there when the folder was listed. `name` is the model's: the file's without its
    suffix."""

    name: str
    path: Path
    size_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """`models` by name; `passed_over`: by the file's name, why a file that looks like a network is none of
    them."""

    models: Mapping[str, ModelFile]
    passed_over: Mapping[str, str]


def list_files(folder: Path | None, taken: Iterable[str]) -> Listing:
    """What lies in the folder, without files that stand for a model of the catalogue (`taken`: their stems).

    Empty where the folder cannot be read.
    """
    if folder is None:
        return Listing({}, {})
    of_the_catalogue = {stem.casefold() for stem in taken}
    found: dict[str, ModelFile] = {}
    passed_over: dict[str, str] = {}
    try:
        entries = [path for path in folder.iterdir() if path.suffix in _LOOKED_AT]
    except OSError:
        return Listing({}, {})
    for path in sorted(entries, key=lambda path: (_LOOKED_AT.index(path.suffix), path.name)):
        name = path.stem.casefold()
        try:
            if name in of_the_catalogue or not path.is_file():
                continue
            stat = path.stat()
        except OSError:
            continue  # gone since it was listed
        if (why := _why_not(path, found)) is not None:
            passed_over[path.name] = why
        else:
            found[name] = ModelFile(path.stem, path, stat.st_size, stat.st_mtime_ns)
    return Listing({file.name: file for file in found.values()}, passed_over)


def _why_not(path: Path, found: Mapping[str, ModelFile]) -> str | None:
    """`found`: those before it, by name without regard to case."""
    if path.suffix in _OTHERS:
        return _OTHERS[path.suffix]
    if not _NAME.fullmatch(path.stem):
        return _BAD_NAME
    if (other := found.get(path.stem.casefold())) is not None:
        return f"{other.path.name} has this name already"
    return f"there are more than {_MAX_MODELS} models" if len(found) == _MAX_MODELS else None
