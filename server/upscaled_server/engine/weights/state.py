"""The neutral form of weights: fp32 arrays by the names of the upstream `.pth` files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture
from upscaled_server.errors import WeightsRejected

StateDict = dict[str, NDArray[np.float32]]

_SHOWN = 5


def check_state(tensors: Mapping[str, NDArray[Any]], architecture: Architecture, origin: str) -> StateDict:
    """The tensors of this architecture, in its order, as fp32 and C-contiguous.

    Raises `WeightsRejected`, naming the tensor, if one is missing, unknown, of another shape, or not finite.
    """
    shapes = architecture.shapes()
    unknown = [name for name in tensors if name not in shapes]
    missing = [name for name in shapes if name not in tensors]
    for names, problem in ((missing, "lacks"), (unknown, "has unknown tensors:")):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise WeightsRejected(
                f"{origin} {problem} {', '.join(map(repr, names[:_SHOWN]))}{more}", tensor=names[0]
            )
    state: StateDict = {}
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise WeightsRejected(
                f"{origin}: tensor {name!r} has the shape {tuple(tensor.shape)} instead of {shape}",
                tensor=name,
            )
        if tensor.dtype.kind != "f":
            raise WeightsRejected(
                f"{origin}: tensor {name!r} holds {tensor.dtype}, not real numbers", tensor=name
            )
        values = np.ascontiguousarray(tensor, dtype=np.float32)
        if not np.isfinite(values).all():
            raise WeightsRejected(f"{origin}: tensor {name!r} holds infinite values or none", tensor=name)
        state[name] = values
    return state
