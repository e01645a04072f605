"""Lets two packages be imported beside current versions of what they need.

- torchvision from a package index was built for another torch than the CPU build, and then fails at import
  since the operators `torchvision::nms` and `qnms` are missing. Their schemas are declared; nothing here
  calls them.
- basicsr (2022) imports `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed. A module
  of that name, with the one function that is wanted of it, is put in its place.

Both happen only where they are needed, once, and before the import that needs them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
from typing import Any

from upscaled_server.errors import FailedPrecondition

_GONE = "torchvision.transforms.functional_tensor"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_lock = threading.Lock()
# The schemas last as long as the library object does.
_libraries: list[Any] = []


def import_spandrel() -> Any:
    """The module `spandrel`. Raises `FailedPrecondition` naming the extra where it is missing."""
    return _import("spandrel", "custom-models")


def import_realesrgan() -> Any:
    """The module `realesrgan`. Raises `FailedPrecondition` naming the extra where it is missing."""
    return _import("realesrgan", "realesrgan")


def _import(name: str, extra: str) -> Any:
    if any(importlib.util.find_spec(module) is None for module in (name, "torch")):
        raise FailedPrecondition(
            f"{name} is not installed on this server; pip install 'upscaled[{extra}]'", extra=extra
        )
    with _lock:
        _mend_torchvision()
        return importlib.import_module(name)


def _mend_torchvision() -> None:
    import torch

    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        # These two have no annotations in torch.
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _libraries.append(library)
        importlib.import_module("torchvision")
    if _GONE not in sys.modules and importlib.util.find_spec(_GONE) is None:
        module = types.ModuleType(_GONE)
        functional = importlib.import_module("torchvision.transforms.functional")
        vars(module)["rgb_to_grayscale"] = functional.rgb_to_grayscale
        sys.modules[_GONE] = module
