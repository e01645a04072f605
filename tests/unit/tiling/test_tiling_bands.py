"""Choosing bands: within the memory, all cores busy, short steps, and never for what cannot be streamed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import LimitExceeded
from upscaled_server.tiling.bands import lower_bands, with_measured_steps
from upscaled_server.tiling.choose import choose_plan
from upscaled_server.tiling.plan import BandTraits, NetworkTraits, RunPlan

COMPACT = NetworkTraits(
    scale=4,
    halo=18,
    multiple=1,
    bytes_per_input_pixel=3000,
    seconds_per_pixel=8e-6,
    bands=BandTraits(17, 18, 6000, 8704, 1e-4),
)
RRDB = NetworkTraits(
    scale=2,
    halo=128,
    multiple=2,
    bytes_per_input_pixel=4800,
    seconds_per_pixel=75e-6,
    threads_inside=True,
    bands=BandTraits(698, 76, 15_000, 240_000, 4e-4, only=True),
)
GIB = 1 << 30

traits = st.sampled_from([COMPACT, RRDB])


@given(traits, st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 32), st.integers(300, 16_000))
def test_bands_stay_within_the_memory(
    network: NetworkTraits, width: int, height: int, cores: int, mib: int
) -> None:
    try:
        plan = choose_plan(width, height, network, mib << 20, cores)
    except LimitExceeded:
        return
    assert plan.working_bytes + plan.state_bytes(in_bytes=2, out_bytes=2) <= mib << 20
    assert plan.parallel * plan.threads <= cores or plan.parallel == 1
    assert RunPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_larger_image_is_run_in_bands_on_all_cores_with_nothing_computed_twice() -> None:
    plan = choose_plan(448, 640, COMPACT, 4 * GIB, parallel=2)
    assert (plan.way, plan.parallel, plan.threads) == ("bands", 2, 1)
    assert plan.recomputed_share == 0
    assert plan.tile_height < 640


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("width", [512, 1000, 2000, 3333, 8000])
def test_memory_does_not_depend_on_the_height(width: int, cores: int) -> None:
    heights = (1920, 2000, 3000, 4000, 6001, 19_200)
    plans = [choose_plan(width, height, COMPACT, 4 * GIB, parallel=cores) for height in heights]
    assert {plan.way for plan in plans} == {"bands"}
    assert len({plan.working_bytes for plan in plans}) == 1
    assert len({plan.state_bytes() for plan in plans}) == 1


def test_steps_keep_to_their_time_on_wide_images() -> None:
    plan = choose_plan(4096, 4096, COMPACT, 8 * GIB, parallel=2, step_seconds=0.1)
    assert plan.way == "bands"
    seconds = plan.computed_pixels * COMPACT.seconds_per_pixel / plan.parallel
    assert seconds / plan.steps <= 0.1


def test_less_memory_means_lower_bands_before_it_means_fewer_cores() -> None:
    rich = choose_plan(2048, 2048, COMPACT, 4 * GIB, parallel=2)
    poor = choose_plan(2048, 2048, COMPACT, 300 << 20, parallel=2)
    assert poor.way == rich.way == "bands"
    assert poor.tile_height < rich.tile_height
    assert poor.parallel == 2


def test_tiles_are_what_is_left_where_no_band_fits() -> None:
    plan = choose_plan(9000, 9000, COMPACT, 200 << 20, parallel=2)
    assert plan.way == "tiles"


@pytest.mark.parametrize("size", [(1, 1), (64, 64)])
def test_a_small_image_is_run_whole_unless_the_device_has_bands_only(size: tuple[int, int]) -> None:
    assert choose_plan(*size, COMPACT, GIB, parallel=2).way == "whole"
    assert choose_plan(*size, RRDB, GIB, parallel=2).way == "bands"


def test_a_network_that_cannot_be_streamed_has_no_bands() -> None:
    assert choose_plan(448, 640, replace(COMPACT, bands=None), 4 * GIB, parallel=2).way == "tiles"


heights_of_bands = st.integers(1, 1024).map(lambda number: 4 * number)


@given(traits, st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 32), heights_of_bands)
def test_a_pinned_height_is_the_plan_s_where_the_memory_allows(
    network: NetworkTraits, width: int, height: int, cores: int, rows: int
) -> None:
    plan = choose_plan(width, height, network, 1 << 50, cores, band_rows=rows)
    assert plan.way == "whole" or (plan.tile_height, plan.parallel) == (rows, cores)
    assert plan.way == choose_plan(width, height, network, 1 << 50, cores).way


@given(traits, st.integers(600, 9000), st.integers(1, 32), heights_of_bands, st.integers(300, 16_000))
def test_a_pinned_height_gives_way_to_the_memory_and_to_nothing_else(
    network: NetworkTraits, width: int, cores: int, rows: int, mib: int
) -> None:
    try:
        plan = choose_plan(width, 4000, network, mib << 20, cores, band_rows=rows)
    except LimitExceeded:
        return
    if plan.way != "bands":
        return  # not even the lowest fit
    assert plan.needed_bytes <= mib << 20
    assert plan.tile_height <= rows
    if plan.tile_height < rows:
        assert replace(plan, tile_height=rows).needed_bytes > mib << 20


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 700), *[st.integers(1, 9)] * 3)
def test_steps_add_up_to_the_whole(
    height: int, rows: int, lag: int, parallel: int, per_band: int, rounds: int
) -> None:
    plan = RunPlan("bands", 8, height, 4, 8, rows, lag, 1, parallel, 1, 1, 1, per_band, rounds)
    shares = [plan.share_of_step(number) for number in range(plan.steps)]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)
    read = [plan.rows_for_step(number) for number in range(1, plan.steps + 1)]
    assert sorted(read) == read
    assert read[0] == min(height, (math.ceil(parallel / per_band) - 1 + parallel) * rows)
    assert read[-1] == height


def test_a_fast_device_has_more_in_a_step_but_for_the_first_and_no_more_than_fits() -> None:
    plan = choose_plan(448, 640, COMPACT, 4 * GIB, parallel=2)
    longer = with_measured_steps(plan, 1e-6, 4 * GIB)
    assert longer == replace(plan, rounds_per_step=longer.rounds_per_step)
    assert longer.rounds_per_step > 1
    assert 4 <= longer.steps < plan.steps
    assert longer.share_of_step(0) == plan.share_of_step(0)
    assert 1e-6 * 448 * 640 * longer.share_of_step(1) <= 0.1
    round_pixels = 448 * plan.tile_height * plan.parallel
    found = [with_measured_steps(plan, seconds / round_pixels, 4 * GIB) for seconds in (0.03, 0.028, 1.0)]
    assert [each.rounds_per_step for each in found] == [3, 4, plan.rounds_per_step]
    assert with_measured_steps(plan, 1e-6, plan.needed_bytes) == plan
    assert with_measured_steps(plan, 1.0, 4 * GIB) == plan
    wide = choose_plan(2048, 2048, COMPACT, 4 * GIB, parallel=2)
    assert with_measured_steps(wide, 1e-6, 4 * GIB).steps_per_band == 1 < wide.steps_per_band
    small = choose_plan(64, 64, COMPACT, GIB, parallel=2)
    assert with_measured_steps(small, 1e-6, GIB) == small


@given(
    traits,
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.integers(1, 32),
    st.integers(300, 16_000),
    st.none() | st.integers(1, 1024).map(lambda number: 4 * number),
)
def test_lower_bands_take_less_memory_and_as_much_work_in_a_step(
    network: NetworkTraits, width: int, height: int, cores: int, mib: int, rows: int | None
) -> None:
    try:
        plan = choose_plan(width, height, network, mib << 20, cores, band_rows=rows)
    except LimitExceeded:
        return
    tries = 0
    while (lower := lower_bands(plan)) is not None:
        tries += 1
        assert lower.tile_height <= min(plan.tile_height, plan.height) / 2
        assert plan.tile_height % lower.tile_height == 0, "what begins at a higher one begins at a lower one"
        assert lower.tile_height % network.multiple == lower.tile_height % 4 == 0
        assert lower.piece_pixels < plan.piece_pixels
        if plan.rows >= plan.parallel:  # else there were cores without a band
            assert lower.needed_bytes <= plan.needed_bytes
        for steps in (2, 5):
            if any(steps >= each.steps - 1 for each in (plan, lower)):
                continue  # the last two are what is left, and a round
            share = [each.bands_after(steps) - each.bands_after(steps - 1) for each in (plan, lower)]
            assert share[0] * plan.tile_height == share[1] * lower.tile_height
        assert lower.bands_after(lower.steps) >= lower.bands > lower.bands_after(lower.steps - 1)
        assert sum(map(lower.share_of_step, range(lower.steps))) == pytest.approx(1)
        plan = lower
    assert tries <= 10
    assert plan.way != "bands" or min(plan.tile_height, plan.height) < 8 or plan.tile_height % 8


def test_only_bands_can_be_lower() -> None:
    heights = {12: 4, 16: 8, 20: 4, 24: 12, 28: 4, 48: 24, 8: 4, 4: None, 1024: 256}
    for rows, lower in heights.items():
        plan = choose_plan(448, 600, COMPACT, 4 * GIB, 2, band_rows=rows)
        assert plan.tile_height == rows
        found = lower_bands(plan)
        assert lower == (None if found is None else found.tile_height)
        assert lower_bands(replace(plan, way="tiles")) is None
