"""Choosing a plan: within the memory, strips before tiles, all cores busy, and recorded without loss."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import InvalidInput, LimitExceeded
from upscaled_server.tiling.choose import choose_plan
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

COMPACT = NetworkTraits(scale=4, halo=18, multiple=1, bytes_per_input_pixel=3000, seconds_per_pixel=7e-6)
RRDB = NetworkTraits(
    scale=4, halo=64, multiple=1, bytes_per_input_pixel=18_000, seconds_per_pixel=290e-6, threads_inside=True
)
UNSHUFFLED = replace(RRDB, scale=2, multiple=2, halo=128, bytes_per_input_pixel=4800, seconds_per_pixel=75e-6)
GIB = 1 << 30

traits = st.sampled_from([COMPACT, RRDB, UNSHUFFLED])


@given(traits, st.integers(1, 12_000), st.integers(1, 12_000), st.integers(1, 32), st.integers(1200, 16_000))
def test_a_plan_stays_within_the_memory(
    network: NetworkTraits, width: int, height: int, cores: int, mib: int
) -> None:
    budget = mib << 20
    try:
        plan = choose_plan(width, height, network, budget, cores)
    except LimitExceeded as error:
        refused: int | float | str | None = error.numbers["actual"]
    else:
        refused = None
    if refused is not None:
        assert int(refused) > budget
        return
    assert plan.working_bytes + plan.state_bytes(in_bytes=2, out_bytes=2) <= budget
    assert plan.parallel * plan.threads <= cores or plan.parallel == 1
    assert (plan.width, plan.height) == (width, height)


@given(traits, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 8))
def test_a_plan_survives_its_record(network: NetworkTraits, width: int, height: int, cores: int) -> None:
    plan = choose_plan(width, height, network, 16 * GIB, cores)
    assert RunPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 64), (100, 90)])
def test_a_small_image_is_run_whole(size: tuple[int, int]) -> None:
    plan = choose_plan(*size, COMPACT, GIB, parallel=2)
    assert plan.way == "whole"
    assert plan.steps == 1
    assert plan.recomputed_share == 0


def test_a_larger_image_is_cut_into_strips_that_keep_all_cores_busy() -> None:
    plan = choose_plan(448, 640, COMPACT, 4 * GIB, parallel=2)
    assert plan.way == "tiles"
    assert plan.strips
    assert plan.parallel == 2
    assert plan.threads == 1
    assert plan.rows % plan.parallel == 0
    assert plan.recomputed_share < 0.5


def test_tiles_are_taken_where_a_strip_does_not_fit() -> None:
    plan = choose_plan(6000, 4000, RRDB, 2 * GIB, parallel=2)
    assert plan.way == "tiles"
    assert not plan.strips


def test_too_little_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(LimitExceeded) as caught:
        choose_plan(6000, 4000, RRDB, 64 << 20, parallel=2)
    assert caught.value.numbers["limit"] == 64 << 20
    assert int(caught.value.numbers["actual"]) > 64 << 20


def test_odd_sizes_are_padded_to_what_the_network_needs() -> None:
    plan = choose_plan(11, 7, UNSHUFFLED, GIB, parallel=2)
    assert plan.piece_pixels == 12 * 8


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        choose_plan(*size, COMPACT, GIB, parallel=2)


@pytest.mark.parametrize("change", [{"way": "sideways"}, {"tile_width": 0}, {"halo": -1}, {"unknown": 1}])
def test_a_damaged_record_is_refused(change: dict[str, object]) -> None:
    record = choose_plan(448, 640, COMPACT, GIB, parallel=2).to_dict() | change
    with pytest.raises(InvalidInput):
        RunPlan.from_dict(record)
