"""Bands give the whole image's result, on both backends, for every network, size and band height."""

from __future__ import annotations

import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.integration.engine.truth import (
    ANIME,
    GENERAL,
    VIDEO,
    X2,
    X4,
    Load,
    Networks,
    Photo,
    Truth,
    assert_promise,
    driven,
    driven_overlapping,
    rounded,
)

from upscaled_server.engine.backends.base import LUMA
from upscaled_server.engine.backends.ncnn_binding import packed_view
from upscaled_server.engine.bands import ncnn_segment
from upscaled_server.engine.bands.ncnn_bands import NcnnBands
from upscaled_server.engine.bands.network import BandNetwork
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.planning import plan_image
from upscaled_server.engine.weights.store import LoadedWeights, StoreOptions, WeightStore
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.tiling.plan import RunPlan


def _plan(
    network: BandNetwork, weights: LoadedWeights, size: tuple[int, int], rows: int, **changes: int
) -> RunPlan:
    numbers = {"parallel": 2, "threads": 1, "steps_per_band": 1} | changes
    return RunPlan(
        way="bands",
        width=size[0],
        height=size[1],
        scale=weights.spec.scale,
        tile_width=-(-size[0] // weights.spec.multiple) * weights.spec.multiple,
        tile_height=rows,
        halo=network.graph.lag_rows,
        multiple=weights.spec.multiple,
        bytes_per_input_pixel=1,
        **numbers,
    )


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize(
    ("name", "size", "rows"),
    [
        (VIDEO, (1, 1), 4),
        (VIDEO, (1, 70), 12),
        (VIDEO, (45, 1), 4),
        (VIDEO, (53, 97), 16),
        (VIDEO, (33, 64), 7),
        (GENERAL, (41, 83), 12),
        (X2, (1, 1), 4),
        (X2, (37, 29), 8),
        (X2, (20, 21), 2),
        (ANIME, (3, 2), 4),
        (ANIME, (40, 57), 8),
        (ANIME, (24, 131), 16),
        (X4, (13, 11), 8),
    ],
)
def test_bands_equal_the_whole_image(
    name: str,
    size: tuple[int, int],
    rows: int,
    backend: str,
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image, network = load_weights(name), photo(*size), networks(name, backend).bands()
    run = BandsRun(network, _plan(network, weights, size, rows), 8, executor)
    share = 5e-4 if backend == "ncnn" else 1e-4
    assert_promise(driven(run, image), rounded(truth(name, image)), share=share, few=3)


@pytest.mark.parametrize(("name", "size"), [(ANIME, (397, 20)), (VIDEO, (397, 40)), (X2, (401, 16))])
def test_images_wider_than_one_panel_of_the_trunk_equal_the_whole_image(
    name: str,
    size: tuple[int, int],
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image, network = load_weights(name), photo(*size), networks(name, "ncnn").bands()
    assert isinstance(network, NcnnBands)
    plan = _plan(network, weights, size, 8)
    first = next(op.name for op in network.graph.ops if op.kind == "conv")
    trunk = network.columns(first, plan.tile_width)
    assert trunk.count > 1
    assert trunk.within(trunk.count - 1) < trunk.panel
    result = driven(BandsRun(network, plan, 8, executor), image)
    assert_promise(result, rounded(truth(name, image)))


@pytest.mark.parametrize(
    ("name", "pack"),
    [(VIDEO, 4), (GENERAL, 4), (ANIME, 4), (X4, 4), (X2, 4), (X2, 1), (X2, 8), (X2, 16)],
)
def test_bands_equal_the_whole_image_however_many_channels_a_processor_interleaves(
    name: str,
    pack: int,
    load_weights: Load,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def repacked(mat: Any) -> NDArray[np.float32]:
        """What a convolution gives here, as that processor would give it."""
        own, width, rows = mat.elempack, mat.w, mat.h
        values = packed_view(mat)
        if own == 1:
            return values
        channels = values.reshape(-1, rows, width, own).transpose(0, 3, 1, 2)
        groups = channels.reshape(-1, pack, rows, width)
        return groups.transpose(0, 2, 3, 1).reshape(-1, rows, width * pack)

    monkeypatch.setattr(NcnnBands, "_find_pack", lambda _: pack)
    monkeypatch.setattr(ncnn_segment, "packed_view", repacked)
    weights, image = load_weights(name), photo(13, 11)
    network = NcnnBands(weights.as_ncnn(), weights.spec.architecture)
    result = driven(BandsRun(network, _plan(network, weights, (13, 11), 8), 8, executor), image)
    network.close()
    assert_promise(result, rounded(truth(name, image)), few=3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 50),
    st.integers(1, 110),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 60),
)
def test_any_size_height_of_bands_and_division_of_work_gives_the_whole_image(
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
    width: int,
    height: int,
    rows: int,
    parallel: int,
    steps_per_band: int,
    rounds_per_step: int,
    chunk: int,
) -> None:
    weights, image, network = load_weights(VIDEO), photo(width, height), networks(VIDEO, "ncnn").bands()
    how = {
        "parallel": parallel,
        "steps_per_band": steps_per_band,
        "rounds_per_step": rounds_per_step,
    }
    plan = _plan(network, weights, (width, height), rows, **how)
    result = driven(BandsRun(network, plan, 8, executor), image, chunk)
    assert_promise(result, rounded(truth(VIDEO, image)), few=3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([VIDEO, X2, ANIME]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 120)),
    rows=st.integers(1, 12).map(lambda rows: 2 * rows),
    parallel=st.integers(1, 3),
    steps_per_band=st.integers(1, 9),
    rounds_per_step=st.integers(1, 3),
)
def test_steps_that_overlap_give_the_same_bytes(
    load_weights: Load,
    networks: Networks,
    photo: Photo,
    executor: ThreadPoolExecutor,
    name: str,
    size: tuple[int, int],
    rows: int,
    parallel: int,
    steps_per_band: int,
    rounds_per_step: int,
) -> None:
    weights, image, network = load_weights(name), photo(*size), networks(name, "ncnn").bands()
    how = {
        "parallel": parallel,
        "steps_per_band": steps_per_band,
        "rounds_per_step": rounds_per_step,
    }
    plan = _plan(network, weights, size, rows, **how)
    expected = driven(BandsRun(network, plan, 8, executor), image)
    result = driven_overlapping(BandsRun(network, plan, 8, executor), image)
    np.testing.assert_array_equal(result, expected)


class _FailingOnce:
    """A network in bands whose work fails once, after so much of it."""

    def __init__(self, network: BandNetwork, after: int) -> None:
        self._network = network
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def run(self, *arguments: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise ProcessingFailed("as told")
        self._network.run(*arguments)


@pytest.mark.parametrize("after", [1, 30, 100])
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_step_that_fails_loses_no_rows_that_it_had_finished(
    after: int,
    parallel: int,
    load_weights: Load,
    networks: Networks,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image, network = load_weights(VIDEO), photo(40, 96), networks(VIDEO, "ncnn").bands()
    plan = _plan(network, weights, (40, 96), 8, parallel=parallel, rounds_per_step=2)
    expected = driven(BandsRun(network, plan, 8, executor), image)
    run = BandsRun(cast("BandNetwork", _FailingOnce(network, after)), plan, 8, executor)
    run.feed(image)
    rows, failures = [], 0
    while not run.done:
        try:
            rows.append(run.step())
        except ProcessingFailed:
            failures += 1
    run.close()
    assert failures == 1
    np.testing.assert_array_equal(np.concatenate(rows), expected)


class _StoringFailsOnce:
    """A network in bands that fails once to store a result."""

    def __init__(self, network: BandNetwork, failure: Exception) -> None:
        self._network = network
        self.left = [failure]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def store(self, *arguments: Any) -> None:
        if self.left:
            raise self.left.pop()
        self._network.store(*arguments)


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("failure", [MemoryError(), OutOfMemory("as told")], ids=repr)
def test_a_result_that_could_not_be_stored_is_stored_by_the_next_step(
    failure: Exception,
    parallel: int,
    backend: str,
    load_weights: Load,
    networks: Networks,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, image, network = load_weights(VIDEO), photo(40, 96), networks(VIDEO, backend).bands()
    plan = _plan(network, weights, (40, 96), 8, parallel=parallel)
    expected = driven(BandsRun(network, plan, 8, executor), image)
    storing = _StoringFailsOnce(network, failure)
    run = BandsRun(cast("BandNetwork", storing), plan, 8, executor)
    run.feed(image)
    rows, failures = [], 0
    while not run.done:
        try:
            rows.append(run.step())
        except (MemoryError, OutOfMemory):
            failures += 1
    run.close()
    # With others at work the step itself may have tried again.
    assert failures <= 1
    assert not storing.left
    np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_a_step_that_fails_at_its_end_does_not_hold_up_the_next(
    load_weights: Load,
    networks: Networks,
    photo: Photo,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, image, network = load_weights(VIDEO), photo(40, 96), networks(VIDEO, "ncnn").bands()
    plan = _plan(network, weights, (40, 96), 8)
    expected = driven(BandsRun(network, plan, 8, executor), image)
    run = BandsRun(network, plan, 8, executor)
    run.feed(image)

    def fail() -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(run._finished, "take", fail)
    with ThreadPoolExecutor(1) as callers:
        following: queue.SimpleQueue[Future[NDArray[Any]]] = queue.SimpleQueue()
        with pytest.raises(MemoryError):
            run.step(lambda: following.put(callers.submit(run.step)))
        # A step may return before its first thread has left.
        rows = [following.get(timeout=60).result(60)]
    while not run.done:
        rows.append(run.step())
    run.close()
    np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_who_computed_what_does_not_show(
    load_weights: Load, networks: Networks, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    weights, image, network = load_weights(VIDEO), photo(60, 90), networks(VIDEO, "ncnn").bands()
    results = [
        driven(BandsRun(network, _plan(network, weights, (60, 90), 12, **how), 8, executor), image)
        for how in (
            {"parallel": 1},
            {"parallel": 3},
            {"parallel": 2, "steps_per_band": 7},
            {"parallel": 2, "rounds_per_step": 3},
        )
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
def test_sixteen_bits_and_luma_come_out_of_bands(
    backend: str,
    load_weights: Load,
    networks: Networks,
    truth: Truth,
    photo: Photo,
    executor: ThreadPoolExecutor,
) -> None:
    weights, network = load_weights(VIDEO), networks(VIDEO, backend).bands()
    image = photo(30, 44).astype(np.uint16) * 257
    reference = truth(VIDEO, image)
    plan = _plan(network, weights, (30, 44), 8)
    result = driven(BandsRun(network, plan, 16, executor), image)
    assert result.dtype == np.uint16
    # One part in 255 of the range is 257 in 16 bits; the rounding of the arithmetic is far below.
    assert np.abs(result - reference * 65535).max() <= 4
    luma = driven(BandsRun(network, plan, 8, executor, planes=1), image)
    assert luma.shape == (*reference.shape[:2], 1)
    assert np.abs(luma[..., 0] - reference @ np.array(LUMA) * 255).max() <= 0.6


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
def test_first_rows_come_early_and_the_state_stays_within_the_plan(
    backend: Any, load_weights: Load, networks: Networks, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    weights, network = load_weights(VIDEO), networks(VIDEO, backend).bands()
    device, size = choose_device("cpu", backend, parallel=2), (32, 1200)
    planned = plan_image(weights.spec, device, *size, budget_bytes=2 << 30, parallel=2, band_rows=16)
    plan = replace(planned, rounds_per_step=1)
    # Less than the result, so that it shows when that is kept.
    assert plan.needed_bytes < size[0] * size[1] * 3 * 2 * 4**2
    image, fed, first_after, most = photo(*size), 0, 0, 0
    run = BandsRun(network, plan, 16, executor)
    while not run.done:
        wanted = run.rows_wanted
        run.feed(image[fed : fed + wanted])
        fed += wanted
        if len(run.step()) and not first_after:
            first_after = fed
        most = max(most, run.state_bytes)
    # A row needs the 17 that follow it; a step may begin one band more than its two.
    assert first_after <= 5 * 16
    assert most <= plan.needed_bytes
    run.close()
    assert run.state_bytes == 0


def test_rows_that_do_not_belong_and_steps_out_of_turn_are_refused(
    load_weights: Load, networks: Networks, photo: Photo, executor: ThreadPoolExecutor
) -> None:
    weights, network = load_weights(X2), networks(X2, "torch").bands()
    closed: list[int] = []
    run = BandsRun(network, _plan(network, weights, (9, 11), 4), 8, executor, lambda: closed.append(1))
    with pytest.raises(ProcessingFailed, match="more rows"):
        run.step()
    for wrong in (np.zeros((1, 8, 3), np.uint8), np.zeros((12, 9, 3), np.uint8), np.zeros((1, 9, 3), "f4")):
        with pytest.raises(ProcessingFailed):
            run.feed(wrong)
    run.feed(photo(9, 11))
    run.step()
    run.close()
    run.close()
    assert closed == [1]
    for late in (run.step, lambda: run.feed(photo(9, 1))):
        with pytest.raises(ProcessingFailed, match="closed"):
            late()


@pytest.mark.parametrize("backend", ["ncnn", "torch"])
@pytest.mark.parametrize("name", [VIDEO, ANIME])
def test_the_engine_plans_and_runs_bands(name: str, backend: Any, tmp_path: Path, photo: Photo) -> None:
    engine = Engine(
        choose_device("cpu", backend, parallel=2), WeightStore(StoreOptions(cache=tmp_path, download=False))
    )
    engine.load(name)
    size = (150, 170) if name == VIDEO else (40, 30)
    plan, image = engine.plan(name, *size), photo(*size)
    assert plan.way == "bands"
    run = engine.open_run(name, plan, 8)
    assert isinstance(run, BandsRun)
    result = driven(run, image)
    assert result.shape == (size[1] * 4, size[0] * 4, 3)
    engine.close()


_MEASURE = """
import resource, sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
import numpy as np
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import StoreOptions, WeightStore

width, height = int(sys.argv[1]), int(sys.argv[2])
device = choose_device("cpu", "ncnn", parallel=2, budget_bytes=2 << 30)
engine = Engine(device, WeightStore(StoreOptions(cache=Path(sys.argv[3]), download=False)))
engine.load("real-esrgan-animevideo-v3")
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
plan = engine.plan("real-esrgan-animevideo-v3", width, height)
run = engine.open_run("real-esrgan-animevideo-v3", plan, 8)
rng = np.random.default_rng(0)
while not run.done:
    run.feed(rng.integers(0, 256, (run.rows_wanted, width, 3), dtype=np.uint8))
    run.step()
engine_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(engine_peak - base, (plan.working_bytes + plan.state_bytes()) // 1024)
"""


def test_memory_is_the_same_for_an_image_four_times_as_high_and_within_the_plan(tmp_path: Path) -> None:
    peaks = []
    for height in (250, 1000):
        command = [sys.executable, "-c", _MEASURE, "192", str(height), str(tmp_path)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        peak, planned = (int(word) for word in answer.stdout.split())
        assert peak <= planned * 1.25
        peaks.append(peak)
    assert peaks[1] <= peaks[0] * 1.15 + 4096
