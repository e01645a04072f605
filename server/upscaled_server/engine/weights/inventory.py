"""Which weights are at hand, told without loading them: for lists of models."""

from __future__ import annotations

import hashlib
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscaled_server.engine.catalogue import Spec
from upscaled_server.engine.weights.store import WeightStore

_NCNN_FP16_TAG = 0x01306B47


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A weight file as it lies there. `sha256` is hexadecimal; of the `.bin` for the ncnn format."""

    origin: str
    precision: Literal["fp16", "fp32"]
    sha256: str
    size_bytes: int


class Inventory:
    """Describes the file that a model would be loaded from. Hashes each file once, until it changes.
    Thread-safe."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._known: dict[tuple[Path, int, int], StoredWeights] = {}
        self._lock = threading.Lock()

    def describe(self, spec: Spec) -> StoredWeights | None:
        """None where there is no file yet, or it cannot be read."""
        found = self._store.find(spec)
        if found is None:
            return None
        origin, path = found.origin, found.path
        file = path.with_suffix(".bin") if path.suffix == ".param" else path
        try:
            stat = file.stat()
            key = (file, stat.st_mtime_ns, stat.st_size)
            with self._lock:
                known = self._known.get(key)
            if known is None:
                known = _read(file, origin, stat.st_size)
                with self._lock:
                    # Only the newest state of a file is of interest, so what is kept is bounded by the
                    # catalogue.
                    self._known = {old: weights for old, weights in self._known.items() if old[0] != file}
                    self._known[key] = known
        except OSError:
            return None
        return known


def _read(file: Path, origin: str, size: int) -> StoredWeights:
    with file.open("rb") as opened:
        head = opened.read(4)
        opened.seek(0)
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    half = file.suffix == ".bin" and len(head) == 4 and struct.unpack("<I", head)[0] == _NCNN_FP16_TAG
    return StoredWeights(origin, "fp16" if half else "fp32", digest, size)
