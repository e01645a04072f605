"""The safetensors format: a JSON header and raw numbers; nothing in it can run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.errors import WeightsRejected


def read_safetensors(data: bytes, origin: str) -> dict[str, NDArray[Any]]:
    """Every tensor by name. Raises `WeightsRejected` for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsRejected(f"{origin} is not a safetensors file we can read: {error}") from error
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}
