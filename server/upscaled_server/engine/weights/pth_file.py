"""The format of `.pth`, `.pt` and `.ckpt`: a zip of a pickle, which could run code, so it is never read by
the plain unpickler.

With torch installed it is read by `torch.load(weights_only=True)`. A CPU server needs no torch: then
`pth_pickle` reads the same files with a list of what may be named in them. Either way anything else in the
pickle is refused.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.weights.pth_pickle import UnsafePickleError, load_tensors
from upscaled_server.errors import WeightsRejected

# What an entry may unpack to: a weight file is stored, not compressed, so more than this is a bomb.
_MAX_UNPACKED_BYTES = 1 << 30

# Official files hold the averaged weights under the first name, older ones the plain ones under the second.
_WRAPPERS = ("params_ema", "params")


def read_pth(data: bytes, origin: str, *, with_torch: bool | None = None) -> dict[str, NDArray[Any]]:
    """Every tensor by name; `params_ema` or `params` is looked into where the file has it.

    `with_torch` chooses the reader; by default torch's where it is installed. Raises `WeightsRejected` for a
    damaged file, one that holds other things than tensors, and one that would run code.
    """
    _check_zip(data, origin)
    if with_torch is None:
        with_torch = importlib.util.find_spec("torch") is not None
    content = load_by_torch(data, origin) if with_torch else _by_us(data, origin)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsRejected(f"{origin} does not hold tensors by name")
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in content.items():
        array = _to_numpy(tensor)
        if not isinstance(name, str) or array is None:
            raise WeightsRejected(f"{origin} holds {str(name)[:80]!r}, which is not a tensor")
        tensors[name] = array
    return tensors


def _check_zip(data: bytes, origin: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise WeightsRejected(f"{origin} is not a .pth file of torch 1.6 or newer: {error}") from error
    if unpacked > _MAX_UNPACKED_BYTES:
        raise WeightsRejected(
            f"{origin} unpacks to {unpacked} bytes", limit=_MAX_UNPACKED_BYTES, actual=unpacked
        )


def load_by_torch(data: bytes, origin: str) -> Any:
    """Tensors and plain containers of them, as they lie in the file. Raises `WeightsRejected`."""
    import pickle

    import torch

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(origin, error) from error
    except Exception as error:
        # torch raises many types for damaged files, RuntimeError and KeyError among them.
        raise WeightsRejected(f"{origin} is not a .pth file we can read: {first_line(error)}") from error


def _by_us(data: bytes, origin: str) -> Any:
    try:
        return load_tensors(data)
    except UnsafePickleError as error:
        raise _more_than_tensors(origin, error) from error
    except Exception as error:
        # The unpickler raises nearly anything for damaged bytes.
        raise WeightsRejected(f"{origin} is not a .pth file we can read: {first_line(error)}") from error


def _more_than_tensors(origin: str, error: Exception) -> WeightsRejected:
    return WeightsRejected(f"{origin} was not opened, it holds more than tensors: {first_line(error)}")


def _to_numpy(tensor: Any) -> NDArray[Any] | None:
    if isinstance(tensor, np.ndarray):
        return tensor
    if hasattr(tensor, "detach"):
        array: NDArray[Any] = tensor.detach().to("cpu").float().numpy()
        return array
    return None


def first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
