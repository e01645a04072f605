"""`.safetensors` files: refused as such, or the tensors of the network."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tests.fuzz.guided.small_weights import ARCHITECTURES, random_state
from upscaled_server.engine.weights.files import read_state
from upscaled_server.errors import WeightsRejected

_PATH = Path("fuzzed.safetensors")
_ARCHITECTURE = ARCHITECTURES[0]


def seeds() -> Iterator[bytes]:
    state = random_state(_ARCHITECTURE)
    yield save(state)
    yield save({name: array.astype(np.float16) for name, array in state.items()})
    for kind in ("BF16", "F8_E4M3", "F64", "BOOL", "F4", "C64", "?"):
        head = json.dumps({"a": {"dtype": kind, "shape": [4], "data_offsets": [0, 8]}}).encode()
        yield struct.pack("<Q", len(head)) + head + bytes(8)


def one_input(data: bytes) -> None:
    try:
        state = read_state(data, _PATH, _ARCHITECTURE)
    except WeightsRejected as refusal:
        assert len(refusal.message) < 2000
        return
    assert {name: array.shape for name, array in state.items()} == _ARCHITECTURE.shapes()
    assert all(np.isfinite(array).all() for array in state.values())
