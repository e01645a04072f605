"""How fast this machine computes a model: by how many bands at a time, and by how high they are.

Every candidate computes as many images as it has bands at a time, each in a thread of its own and one band of
it at a time. So no core waits for another or runs out of bands at an image's end, and short images say what
tall ones do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from upscaled_server.engine.engine import Engine
from upscaled_server.errors import FailedPrecondition
from upscaled_server.tiling.bands import choose_bands
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

BAND_ROWS = (8, 12, 16, 24, 32)
_USUAL_BAND_ROWS = 16

# A multiple of all of them, so that every candidate computes whole bands only.
_IMAGE_ROWS = 96
_WIDTHS = (32, 512)
_WIDTH_MULTIPLE = 4

# The speed of a first, small run is taken to size the others; that much slower they may be.
_SPARE = 1.3

# Candidates this close to the fastest are as good: fewer bands leave cores to others, lower ones need less
# memory.
_SLACK = 0.03


@dataclass(frozen=True, slots=True)
class Speed:
    """`pixels_per_second` of input, by `parallel` bands of `band_rows` at a time: a median."""

    parallel: int
    band_rows: int
    pixels_per_second: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, and what of it is to be used. `width` is the images'."""

    width: int
    by_parallel: tuple[Speed, ...]
    by_band_rows: tuple[Speed, ...]
    parallel: int
    band_rows: int


def calibrate(engine: Engine, model: str, seconds: float) -> Calibration:
    """Measure a model that is loaded, for about so many seconds: every candidate once at least, and again
    while there is time.

    Raises `FailedPrecondition` where it is not computed in bands, one on each core.
    """
    traits = engine.traits(model)
    if traits.bands is None or traits.bands.threads_inside:
        raise FailedPrecondition(f"{model} is not computed in bands on this backend: nothing to calibrate")
    began = time.perf_counter()
    counts = list(_counts(engine.device.parallel))
    narrow = _plan(engine, traits, _WIDTHS[0], _USUAL_BAND_ROWS)
    _seconds(engine, model, narrow, 1)
    core = narrow.width * narrow.height / _seconds(engine, model, narrow, 1)
    left = began + seconds - time.perf_counter()
    candidates = len(counts) + len(BAND_ROWS)
    width = _fitting_width(left / candidates / _SPARE * core / _IMAGE_ROWS)

    share = left * len(counts) / candidates
    by_parallel = _measure(
        engine, model, [(count, _plan(engine, traits, width, _USUAL_BAND_ROWS)) for count in counts], share
    )
    parallel = _first_good(by_parallel).parallel
    by_band_rows = _measure(
        engine,
        model,
        [(parallel, _plan(engine, traits, width, rows)) for rows in BAND_ROWS],
        began + seconds - time.perf_counter(),
    )
    return Calibration(width, by_parallel, by_band_rows, parallel, _first_good(by_band_rows).band_rows)


def _counts(cores: int) -> Iterator[int]:
    count = 1
    while count < cores:
        yield count
        count *= 2
    yield cores


def _fitting_width(width: float) -> int:
    smallest, largest = _WIDTHS
    return max(smallest, min(largest, int(width) // _WIDTH_MULTIPLE * _WIDTH_MULTIPLE))


def _plan(engine: Engine, traits: NetworkTraits, width: int, band_rows: int) -> RunPlan:
    budget = engine.device.budget_bytes // engine.device.parallel
    plan = choose_bands(width, _IMAGE_ROWS, traits, budget, 1, step_seconds=float("inf"), band_rows=band_rows)
    if plan is None or plan.tile_height != band_rows:
        raise FailedPrecondition(
            "there is not the memory to calibrate with", limit=budget, width=width, band_rows=band_rows
        )
    return plan


def _measure(
    engine: Engine, model: str, candidates: list[tuple[int, RunPlan]], seconds: float
) -> tuple[Speed, ...]:
    """They take turns, so that a slow moment of the machine hits all alike."""
    began, rounds = time.perf_counter(), 0
    rates: list[list[float]] = [[] for _ in candidates]
    while not rounds or (time.perf_counter() - began) * (1 + 1 / rounds) <= seconds:
        for (parallel, plan), found in zip(candidates, rates, strict=True):
            pixels = parallel * plan.width * plan.height
            found.append(pixels / _seconds(engine, model, plan, parallel))
        rounds += 1
    return tuple(
        Speed(parallel, plan.tile_height, statistics.median(found))
        for (parallel, plan), found in zip(candidates, rates, strict=True)
    )


def _first_good(speeds: tuple[Speed, ...]) -> Speed:
    enough = max(speed.pixels_per_second for speed in speeds) * (1 - _SLACK)
    return next(speed for speed in speeds if speed.pixels_per_second >= enough)


def _seconds(engine: Engine, model: str, plan: RunPlan, parallel: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(max_workers=parallel) as threads:
        for done in [threads.submit(_upscale, engine, model, plan) for _ in range(parallel)]:
            done.result()
    return time.perf_counter() - began


def _upscale(engine: Engine, model: str, plan: RunPlan) -> None:
    image = np.random.default_rng(1).integers(0, 256, (plan.height, plan.width, 3), dtype=np.uint8)
    run, fed = engine.open_run(model, plan, 8), 0
    try:
        while not run.done:
            wanted = run.rows_wanted
            run.feed(image[fed : fed + wanted])
            fed += wanted
            run.step()
    finally:
        run.close()
