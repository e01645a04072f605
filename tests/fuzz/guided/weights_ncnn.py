"""Pairs of `.param` and `.bin`: refused as such, or a network that ncnn then loads and runs.

ncnn trusts what it is given, so what passes our checks is run: a wrong size would crash it here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.fuzz.guided.small_weights import ARCHITECTURES, random_state
from upscaled_server.engine.backends.ncnn_binding import extract, load_net
from upscaled_server.engine.weights.ncnn.model import read_ncnn, write_ncnn
from upscaled_server.errors import OutOfMemory, WeightsRejected

_SIDE = 8


def seeds() -> Iterator[bytes]:
    for index, architecture in enumerate(ARCHITECTURES):
        for precision in ("fp16", "fp32"):
            model = write_ncnn(random_state(architecture), architecture, precision)  # type: ignore[arg-type]
            yield bytes((index,)) + model.param + b"\0" + model.bin


def one_input(data: bytes) -> None:
    architecture = ARCHITECTURES[data[0] % len(ARCHITECTURES) if data else 0]
    param, _, weights = data[1:].partition(b"\0")
    try:
        model, state = read_ncnn(param, weights, architecture, "fuzzed.bin")
    except WeightsRejected as refusal:
        assert len(refusal.message) < 2000
        return
    assert list(state) == list(architecture.shapes())
    _run(model.param, model.bin, model.input, model.output, architecture.scale)


def _run(param: bytes, weights: bytes, source: str, target: str, scale: int) -> None:
    import ncnn

    image = ncnn.Mat(_SIDE, _SIDE, 3)
    np.asarray(image)[...] = 0.5
    try:
        result = extract(load_net(param, weights, 1), source, image, target)
    except OutOfMemory:
        return
    assert (result.w, result.h, result.c) == (_SIDE * scale, _SIDE * scale, 3)
