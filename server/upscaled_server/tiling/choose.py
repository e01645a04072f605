"""Choosing a plan: of the cuts that fit into the memory, one that is nearly the fastest and has short steps.

A strip as wide as the image has context on two sides only, a tile on four, so strips come out ahead of tiles
wherever a strip fits; a small image comes out whole. Cutting finer than needed shortens the steps (other work
gets its turn, rows arrive early) but computes more context twice: up to `_SLACK` that is accepted. Bands
compute nothing twice, and are taken for every larger image of a network that has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from upscaled_server.errors import InvalidInput, LimitExceeded
from upscaled_server.tiling.bands import STEP_SECONDS, choose_bands
from upscaled_server.tiling.plan import NetworkTraits, RunPlan, Way

# A cut may take this much longer than the fastest one when that makes its steps shorter.
_SLACK = 0.2

# What several threads inside one piece lose against as many pieces with one thread each.
_THREADS_INSIDE_LOSS = 0.15

# Of every cut into more pieces than this along an axis only some are tried, each about 15% finer than the one
# before.
_ALL_COUNTS_UP_TO = 12


def choose_plan(
    width: int,
    height: int,
    traits: NetworkTraits,
    budget_bytes: int,
    parallel: int,
    *,
    step_seconds: float = STEP_SECONDS,
    band_rows: int | None = None,
) -> RunPlan:
    """The plan for an image of `width` x `height` pixels.

    `budget_bytes` bounds a run's working memory and state together; `parallel` is the number of cores (or how
    many pieces a device takes at once). `step_seconds` is what one step should take at most: an aim, given up
    where smaller pieces would compute too much twice. `band_rows` is how high bands are, where they are taken
    and that fits the budget; by default it is chosen. Raises `LimitExceeded` where even the smallest piece
    does not fit the budget.
    """
    if width < 1 or height < 1:
        raise InvalidInput(f"an image of {width}x{height} pixels cannot be planned")
    parallel = max(1, parallel)

    def fits(plan: RunPlan) -> bool:
        return plan.needed_bytes <= budget_bytes

    whole = _plan("whole", width, height, traits, width, height, pieces=1, threads=parallel)
    only_bands = traits.bands is not None and traits.bands.only
    if fits(whole) and _seconds(whole, traits) <= step_seconds and not only_bands:
        return whole
    bands = choose_bands(
        width, height, traits, budget_bytes, parallel, step_seconds=step_seconds, band_rows=band_rows
    )
    if bands is not None:
        return bands
    # Few, wide pieces only when there is not enough memory for one piece per core.
    pieces = 1 if traits.threads_inside else parallel
    while True:
        threads = max(1, parallel // pieces)
        candidates = [plan for plan in _strips(width, height, traits, pieces, threads) if fits(plan)]
        if fits(whole):
            candidates.append(whole)
        if not candidates:
            candidates = [plan for plan in _tiles(width, height, traits, pieces, threads) if fits(plan)]
        else:
            thin = min(plan.recomputed_share for plan in candidates)
            if thin > _SLACK:
                candidates += [plan for plan in _tiles(width, height, traits, pieces, threads) if fits(plan)]
        if candidates:
            return _best(candidates, traits, step_seconds)
        if pieces == 1:
            smallest = min(_tiles(width, height, traits, 1, parallel), key=lambda plan: plan.working_bytes)
            raise LimitExceeded(
                "budget_bytes",
                "too little memory for the smallest piece",
                limit=budget_bytes,
                actual=smallest.needed_bytes,
                unit="bytes",
            )
        pieces //= 2


def _best(candidates: list[RunPlan], traits: NetworkTraits, step_seconds: float) -> RunPlan:
    seconds = {plan: _seconds(plan, traits) for plan in candidates}
    limit = min(seconds.values()) * (1 + _SLACK)
    good = [plan for plan in candidates if seconds[plan] <= limit]
    short = [plan for plan in good if seconds[plan] / plan.steps <= step_seconds]
    if short:
        return min(short, key=lambda plan: seconds[plan])
    # None is short enough: a finer cut must shorten its steps by more than the square of what it costs.
    return min(good, key=lambda plan: seconds[plan] ** 2 * seconds[plan] / plan.steps)


def _seconds(plan: RunPlan, traits: NetworkTraits) -> float:
    """Wall time of the plan: the pieces of a step wait for each other, so an unfilled last step costs a full
    one."""
    filled = plan.rows * plan.columns / (plan.steps * plan.parallel)
    loss = _THREADS_INSIDE_LOSS if plan.threads > 1 else 0.0
    work = plan.computed_pixels * traits.seconds_per_pixel
    return work / (plan.parallel * plan.threads) / filled * (1 + loss)


def _strips(width: int, height: int, traits: NetworkTraits, pieces: int, threads: int) -> Iterator[RunPlan]:
    for length in _lengths(height, traits.multiple, start=2):
        yield _plan("tiles", width, height, traits, width, length, pieces=pieces, threads=threads)


def _tiles(width: int, height: int, traits: NetworkTraits, pieces: int, threads: int) -> Iterator[RunPlan]:
    for tile_width in _lengths(width, traits.multiple):
        for tile_height in _lengths(height, traits.multiple):
            if (
                tile_height <= 2 * tile_width <= 4 * tile_height
                or tile_height == height
                or tile_width == width
            ):
                yield _plan(
                    "tiles", width, height, traits, tile_width, tile_height, pieces=pieces, threads=threads
                )


def _lengths(size: int, multiple: int, start: int = 1) -> Iterator[int]:
    """Even cuts of an axis, from coarse to fine, down to pieces of one multiple."""
    count, seen = start, 0
    blocks = math.ceil(size / multiple)
    while count <= blocks:
        length = min(size, math.ceil(blocks / count) * multiple)
        if length != seen:
            yield length
        seen = length
        count = count + 1 if count < _ALL_COUNTS_UP_TO else math.ceil(count * 1.15)
    if seen != min(size, multiple):
        yield min(size, multiple)


def _plan(
    way: Way,
    width: int,
    height: int,
    traits: NetworkTraits,
    tile_width: int,
    tile_height: int,
    *,
    pieces: int,
    threads: int,
) -> RunPlan:
    return RunPlan(
        way=way,
        width=width,
        height=height,
        scale=traits.scale,
        tile_width=tile_width,
        tile_height=tile_height,
        halo=traits.halo,
        multiple=traits.multiple,
        parallel=pieces,
        threads=threads,
        bytes_per_input_pixel=traits.bytes_per_input_pixel,
        min_size=traits.min_size,
    )
