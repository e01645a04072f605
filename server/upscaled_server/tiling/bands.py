"""Choosing bands: how high they are, and how much of the work on them is a step.

Low bands take less memory, come out earlier, and leave less undone at the image's end, where cores run out of
bands; high ones spend a smaller share on what each band costs beside its pixels.
"""

from __future__ import annotations

import math
from dataclasses import replace

from upscaled_server.tiling.plan import BandTraits, NetworkTraits, RunPlan

# The rows that a Winograd convolution computes together: all heights are multiples of it.
_LOWEST = 4
_HEIGHTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)

# A band is computed as if it had this many rows more: those that its segments read of the band before, and
# copy.
_EXTRA_ROWS = 0.7

# Bands that cost this much more than the best are taken for being lower.
_SLACK = 0.05

# Taller images are cut as one of this height is, so that memory depends on the width alone. Most heights
# of bands divide it evenly, as many as there are cores, so that no half empty last round decides.
_TALL_ROWS = 768

STEP_SECONDS = 0.1
"""What a step should take: an aim. Of rounds of bands it has as many as come nearest to it."""

# Cores wait for each other at a step's end, and for the next to be asked for. Not much more of an image than
# this share is one step, though, so that what is done with its rows keeps up.
_LARGEST_STEP = 1 / 4


def choose_bands(
    width: int,
    height: int,
    traits: NetworkTraits,
    budget_bytes: int,
    parallel: int,
    *,
    step_seconds: float,
    band_rows: int | None = None,
) -> RunPlan | None:
    """The plan in bands; None where the network has none or even the lowest do not fit into the memory.

    `band_rows`: their height, whatever that costs, or the nearest below that fits into the memory.
    """
    bands = traits.bands
    if bands is None:
        return None
    heights = _HEIGHTS if band_rows is None else (*(rows for rows in _HEIGHTS if rows < band_rows), band_rows)
    # Where threads work inside, one band at a time takes all cores.
    flights = [1] if bands.threads_inside else [2**n for n in range(parallel.bit_length(), -1, -1)]
    for wanted in flights:
        in_flight = min(parallel, wanted)
        threads = parallel if bands.threads_inside else 1
        plans = [
            _plan(width, height, traits, bands, rows, in_flight, threads, step_seconds)
            for rows in heights
            if rows % traits.multiple == 0
        ]
        fitting = [plan for plan in plans if plan.needed_bytes <= budget_bytes]
        if fitting and band_rows is not None:
            return fitting[-1]
        if fitting:
            seconds = [_seconds(plan, traits, bands) for plan in fitting]
            limit = min(seconds) * (1 + _SLACK)
            return next(plan for plan, cost in zip(fitting, seconds, strict=True) if cost <= limit)
    return None


def lower_bands(plan: RunPlan) -> RunPlan | None:
    """The plan with bands of half the height, or the next below that divides the height evenly, so that they
    begin where the higher ones do; a step does as much as before. None where no lower ones make sense."""
    if plan.way != "bands":
        return None
    step = math.lcm(_LOWEST, plan.multiple)
    # Higher than the image is no higher than it.
    most = min(plan.tile_height, plan.height) // 2 // step * step
    for rows in range(most, 0, -step):
        parts, left_over = divmod(plan.tile_height, rows)
        if not left_over:
            return replace(plan, tile_height=rows, rounds_per_step=plan.rounds_per_step * parts)
    return None


def _band_seconds(rows: int, width: int, traits: NetworkTraits, bands: BandTraits, threads: int) -> float:
    pixels = width * (rows + _EXTRA_ROWS) * traits.seconds_per_pixel / threads
    return pixels + bands.segments * bands.seconds_per_segment


def _seconds(plan: RunPlan, traits: NetworkTraits, bands: BandTraits) -> float:
    """Of an image as wide, and as tall up to `_TALL_ROWS`."""
    rows, height = plan.tile_height, min(plan.height, _TALL_ROWS)
    one = _band_seconds(min(rows, height), plan.width, traits, bands, plan.threads)
    rounds = math.ceil(height / rows / plan.parallel)
    # Bands follow each other at a segment's distance.
    return one * (rounds + (plan.parallel - 1) / bands.segments)


def _plan(
    width: int,
    height: int,
    traits: NetworkTraits,
    bands: BandTraits,
    rows: int,
    parallel: int,
    threads: int,
    step_seconds: float,
) -> RunPlan:
    one = _band_seconds(min(rows, height), width, traits, bands, threads)
    return RunPlan(
        way="bands",
        width=width,
        height=height,
        scale=traits.scale,
        tile_width=math.ceil(width / traits.multiple) * traits.multiple,
        tile_height=rows,
        halo=bands.lag_rows,
        multiple=traits.multiple,
        parallel=parallel,
        threads=threads,
        bytes_per_input_pixel=bands.bytes_per_input_pixel,
        steps_per_band=max(1, min(math.ceil(one / step_seconds), bands.segments * parallel)),
        rounds_per_step=_rounds_per_step(height, rows, parallel, one, step_seconds),
        carried_bytes_per_column=bands.carried_bytes_per_column,
    )


def _rounds_per_step(height: int, rows: int, parallel: int, seconds: float, step_seconds: float) -> int:
    """`seconds`: of one round."""
    if parallel == 1:
        return 1
    rounds = math.ceil(min(height, _TALL_ROWS) / rows / parallel)
    return max(1, min(round(step_seconds / seconds), math.ceil(rounds * _LARGEST_STEP)))


def with_measured_steps(plan: RunPlan, seconds_per_pixel: float, budget_bytes: int) -> RunPlan:
    """A plan with as much work in a step as its time allows on a device that has computed input pixels at
    this speed, but not less than before, and where it fits into the memory. The result has the same bytes."""
    if plan.way != "bands":
        return plan
    seconds = seconds_per_pixel * plan.width * plan.tile_height * plan.parallel
    rounds = _rounds_per_step(plan.height, plan.tile_height, plan.parallel, seconds, STEP_SECONDS)
    measured = replace(
        plan,
        steps_per_band=min(plan.steps_per_band, max(1, math.ceil(seconds / STEP_SECONDS))),
        rounds_per_step=max(plan.rounds_per_step, rounds),
    )
    return measured if measured.needed_bytes <= budget_bytes else plan
