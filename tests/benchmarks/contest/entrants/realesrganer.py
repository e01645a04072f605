"""RealESRGANer of the realesrgan package, the upstream reference, on the CPU."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np

from tests.benchmarks.contest.entrants import Entrant, NotHere, Pixels
from tests.benchmarks.contest.weights import spec_of, state_of
from upscaled_server.engine.backends.realesrgan_backend import make_upsampler
from upscaled_server.errors import FailedPrecondition


def prepare(model: str, image: Pixels) -> Entrant:
    """With its defaults, but in single precision, since a CPU has no other."""
    return _prepare(model, image)


def prepare_256(model: str, image: Pixels) -> Entrant:
    return _prepare(model, image, tile=256)


def _prepare(model: str, image: Pixels, **options: Any) -> Entrant:
    try:
        upsampler = make_upsampler(spec_of(model).architecture, state_of(model), **options)
    except FailedPrecondition as error:
        raise NotHere(error.message) from error
    bgr = np.ascontiguousarray(image[..., ::-1])

    def run() -> Any:
        # It prints a line for each tile.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123
            return upsampler.enhance(bgr)[0]

    return Entrant(run, pixels=lambda result: np.ascontiguousarray(result[..., ::-1]))
