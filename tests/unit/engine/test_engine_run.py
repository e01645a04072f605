"""Runs over a network that only repeats pixels: rows, order, memory, errors. No numbers are computed here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upscaled_server.engine.backends.base import pad_piece
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.device import Device
from upscaled_server.engine.planning import plan_image
from upscaled_server.engine.run import PiecesRun, Run
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.tiling.cut import Piece
from upscaled_server.tiling.plan import RunPlan


class Repeater:
    """Enlarges by repeating pixels, and records what it was asked."""

    backend, precision, scale = "test", "exact", 2

    def __init__(self, largest: int | None = None) -> None:
        self.largest = largest
        self.pieces: list[Piece] = []
        self.threads: set[int] = set()
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        if self.largest is not None and piece.computed_pixels > self.largest:
            raise OutOfMemory("too large")
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.pieces.append(piece)
            self.threads.add(threads)
        padded = pad_piece(source, piece)
        assert padded.shape[:2] == (piece.down.computed, piece.across.computed)
        result = padded.repeat(self.scale, 0).repeat(self.scale, 1)
        top, left = piece.down.inside * self.scale, piece.across.inside * self.scale
        out[...] = result[top : top + out.shape[0], left : left + out.shape[1]]
        with self._lock:
            self.at_once -= 1

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def _plan(
    width: int, height: int, tile: tuple[int, int], halo: int = 3, multiple: int = 1, parallel: int = 2
) -> RunPlan:
    return RunPlan("tiles", width, height, 2, *tile, halo, multiple, parallel, 1, 100)


def _image(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _drive(run: Run, image: NDArray[Any]) -> NDArray[Any]:
    rows, fed, steps = [], 0, 0
    while not run.done:
        wanted = run.rows_wanted
        if wanted:
            run.feed(image[fed : fed + wanted])
            fed += wanted
        rows.append(run.step())
        assert run.state_bytes <= run.plan.state_bytes()
        steps += 1
    assert fed == image.shape[0]
    assert steps == run.plan.steps
    return np.concatenate(rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 9),
    st.sampled_from([1, 2]),
    st.integers(1, 4),
)
def test_rows_come_in_order_and_complete(
    executor: ThreadPoolExecutor,
    width: int,
    height: int,
    across: int,
    down: int,
    halo: int,
    multiple: int,
    parallel: int,
) -> None:
    image = _image(width, height)
    plan = _plan(width, height, (across * multiple, down * multiple), halo, multiple, parallel)
    network = Repeater()
    run = PiecesRun(network, plan, 8, executor)
    result = _drive(run, image)
    np.testing.assert_array_equal(result, image.repeat(2, 0).repeat(2, 1))
    assert network.most_at_once <= parallel
    assert network.threads == {1}


def test_the_run_holds_no_more_than_it_needs(executor: ThreadPoolExecutor) -> None:
    image = _image(50, 1000)
    plan = _plan(50, 1000, (50, 10))
    run = PiecesRun(Repeater(), plan, 8, executor)
    fed = most = 0
    while not run.done:
        wanted = run.rows_wanted
        run.feed(image[fed : fed + wanted])
        fed += wanted
        most = max(most, run.state_bytes)
        run.step()
    assert most <= plan.state_bytes()
    assert most < 50 * 3 * 40


def test_rows_may_be_fed_in_any_portions(executor: ThreadPoolExecutor) -> None:
    image = _image(20, 90)
    run = PiecesRun(Repeater(), _plan(20, 90, (20, 8)), 8, executor)
    rows = []
    for start in range(0, 90, 7):
        run.feed(image[start : start + 7])
        while not run.done and run.rows_wanted == 0:
            rows.append(run.step())
    assert run.done
    np.testing.assert_array_equal(np.concatenate(rows), image.repeat(2, 0).repeat(2, 1))


def test_too_little_memory_halves_the_piece_and_goes_on(executor: ThreadPoolExecutor) -> None:
    image = _image(40, 60)
    network = Repeater(largest=400)
    run = PiecesRun(network, _plan(40, 60, (40, 30)), 8, executor)
    np.testing.assert_array_equal(_drive(run, image), image.repeat(2, 0).repeat(2, 1))
    assert max(piece.computed_pixels for piece in network.pieces) <= 400


def test_too_little_memory_for_a_pixel_is_an_error(executor: ThreadPoolExecutor) -> None:
    run = PiecesRun(Repeater(largest=0), _plan(4, 4, (4, 4)), 8, executor)
    run.feed(_image(4, 4))
    with pytest.raises(OutOfMemory):
        run.step()


def test_a_whole_image_without_context_is_not_halved(executor: ThreadPoolExecutor) -> None:
    spec, device = Catalogue().resolve("real-esrgan-x2-plus"), Device("cpu", "", "realesrgan", "fp32", 2, 0)
    plan = plan_image(spec, device, 20, 30, budget_bytes=1 << 34, parallel=2)
    network = Repeater(largest=400)
    run = PiecesRun(network, plan, 8, executor)
    run.feed(_image(20, 30))
    with pytest.raises(OutOfMemory):
        run.step()
    assert network.pieces == []
    network.largest = None
    np.testing.assert_array_equal(run.step(), _image(20, 30).repeat(2, 0).repeat(2, 1))


def test_a_failing_piece_fails_the_step_after_the_others_ended(executor: ThreadPoolExecutor) -> None:
    class Failing(Repeater):
        def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
            super().infer(source, piece, out, threads=threads)
            if piece.down.start == 0:
                raise ProcessingFailed("broken")

    network = Failing()
    run = PiecesRun(network, _plan(10, 40, (10, 10), parallel=4), 8, executor)
    run.feed(_image(10, 40))
    with pytest.raises(ProcessingFailed, match="broken"):
        run.step()
    assert network.at_once == 0
    assert len(network.pieces) == 4


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((1, 11, 3), np.uint8),
        np.zeros((1, 10, 4), np.uint8),
        np.zeros((10, 3), np.uint8),
        np.zeros((1, 10, 3), np.float32),
        np.zeros((21, 10, 3), np.uint8),
    ],
)
def test_rows_that_do_not_belong_are_refused(executor: ThreadPoolExecutor, rows: NDArray[Any]) -> None:
    run = PiecesRun(Repeater(), _plan(10, 20, (10, 10)), 8, executor)
    with pytest.raises(ProcessingFailed):
        run.feed(rows)


def test_the_depth_may_not_change(executor: ThreadPoolExecutor) -> None:
    run = PiecesRun(Repeater(), _plan(10, 20, (10, 10)), 8, executor)
    run.feed(np.zeros((2, 10, 3), np.uint8))
    with pytest.raises(ProcessingFailed, match="uint16"):
        run.feed(np.zeros((2, 10, 3), np.uint16))


def test_a_step_without_its_rows_is_refused(executor: ThreadPoolExecutor) -> None:
    run = PiecesRun(Repeater(), _plan(10, 20, (10, 10)), 8, executor)
    with pytest.raises(ProcessingFailed, match="20 more rows"):
        run.step()


def test_a_closed_run_takes_and_gives_nothing(executor: ThreadPoolExecutor) -> None:
    closed: list[int] = []
    run = PiecesRun(Repeater(), _plan(10, 20, (10, 10)), 8, executor, lambda: closed.append(1))
    run.feed(_image(10, 20))
    run.close()
    run.close()
    assert closed == [1]
    assert run.state_bytes == 0
    with pytest.raises(ProcessingFailed):
        run.feed(_image(10, 1))
    with pytest.raises(ProcessingFailed):
        run.step()


def test_a_plan_for_another_scale_or_way_is_refused(executor: ThreadPoolExecutor) -> None:
    plan = _plan(10, 20, (10, 10))
    for wrong in (replace(plan, scale=4), replace(plan, way="bands")):
        with pytest.raises(ProcessingFailed):
            PiecesRun(Repeater(), wrong, 8, executor)
