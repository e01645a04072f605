"""`.pth` files by both readers, ours and torch's: refused as such, or arrays. Nothing in them runs.

Besides whole files the pickle alone is mutated and put into a sound archive, which checksums would otherwise
keep it from.
"""

from __future__ import annotations

import io
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzz.guided.small_weights import ARCHITECTURES, random_state
from upscaled_server.engine.weights.pth_file import read_pth
from upscaled_server.engine.weights.state import check_state
from upscaled_server.errors import WeightsRejected

_CANARY = Path(tempfile.gettempdir()) / "UPSCALED_FUZZ_CANARY"
_WHOLE, _PICKLE = range(2)
_STORAGE = np.arange(64, dtype="<f4").tobytes()


class _Armed:
    """Its unpickling creates a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (_CANARY,))


def seeds() -> Iterator[bytes]:
    state = random_state(ARCHITECTURES[0])
    tensors = OrderedDict((name, torch.from_numpy(array)) for name, array in state.items())
    half = {
        "params_ema": {"a": torch.ones(64).half().reshape(8, 8).t(), "b": torch.nn.Parameter(torch.ones(3))}
    }
    for content in (tensors, {"params": tensors}, half, {"a": torch.ones(64)}, {"a": _Armed()}):
        data = _saved(content)
        yield bytes((_WHOLE,)) + data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            yield bytes((_PICKLE,)) + archive.read(name)
    yield bytes((_WHOLE,)) + pickle.dumps(_Armed())
    yield bytes((_PICKLE,)) + pickle.dumps(_Armed(), protocol=0)


def one_input(data: bytes) -> None:
    kind, rest = (data[0] % 2, data[1:]) if data else (_WHOLE, b"")
    file = rest if kind == _WHOLE else _archive(rest)
    for with_torch in (False, True):
        try:
            tensors = read_pth(file, "fuzzed.pth", with_torch=with_torch)
            assert all(isinstance(array, np.ndarray) for array in tensors.values())
            check_state(tensors, ARCHITECTURES[0], "fuzzed.pth")
        except WeightsRejected as refusal:
            assert len(refusal.message) < 2000
    assert not _CANARY.exists(), "something in the file ran"


def _saved(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _archive(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for number in range(4):
            archive.writestr(f"archive/data/{number}", _STORAGE)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()
