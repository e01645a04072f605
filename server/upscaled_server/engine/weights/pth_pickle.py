"""Reading the pickle of a `.pth` without torch: only tensors and dictionaries can come out, nothing can be
called.

The pickle names its classes; `find_class` knows five names and gives a plain function of ours for each.
Storages lie beside the pickle as raw little-endian numbers and are named by persistent ids.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_PICKLE_BYTES = 16 << 20
_MAX_DIMENSIONS = 8
# Python makes room up to the largest place that a pickle names, whether it fills the others or not.
_MAX_MEMO = 1 << 20


class UnsafePickleError(Exception):
    """The pickle names something that is not on the list."""


class _StorageType:
    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)


_STORAGES = {
    "FloatStorage": _StorageType("<f4"),
    "HalfStorage": _StorageType("<f2"),
    "DoubleStorage": _StorageType("<f8"),
}


def load_tensors(data: bytes) -> Any:
    """What the file holds: nested dictionaries of arrays. Raises `UnsafePickleError`; anything else for
    damaged files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("there is no data.pkl in it")
        prefix = names[0].removesuffix("data.pkl")
        if archive.getinfo(names[0]).file_size > _MAX_PICKLE_BYTES:
            raise ValueError("its data.pkl is too large")
        content = archive.read(names[0])
        _check_memo(content)
        return _TensorUnpickler(archive, prefix, content).load()


def _check_memo(content: bytes) -> None:
    """Raises ValueError for a pickle that would make the unpickler reserve memory far beyond its own size."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= (argument or 0) < _MAX_MEMO:
            raise ValueError(f"its pickle names the place {argument}")


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._archive = archive
        self._prefix = prefix
        self._read: dict[str, NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        found = _ALLOWED.get((module, name))
        if found is None:
            raise UnsafePickleError(f"it names {module}.{name}"[:200])
        return found

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _StorageType) or not str(key).isalnum():
            raise UnsafePickleError("it refers to something that is not a tensor's storage")
        if key not in self._read:
            raw = self._archive.read(f"{self._prefix}data/{key}")
            self._read[key] = np.frombuffer(raw, storage.dtype)
        values = self._read[key]
        if values.size != count or values.dtype != storage.dtype:
            raise ValueError("a storage does not have the length it should have")
        return values


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> NDArray[Any]:
    if not isinstance(storage, np.ndarray) or len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        raise ValueError("a tensor does not fit its storage")
    if offset < 0 or any(length < 1 for length in size) or any(step < 0 for step in stride):
        raise ValueError("a tensor does not fit its storage")
    end = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if end >= storage.size:
        raise ValueError("a tensor does not fit its storage")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), steps, writeable=False)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
