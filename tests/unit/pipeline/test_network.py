"""Rows through the network: what is fed when, and how far ahead of the work."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.errors import ProcessingFailed
from upscaled_server.media.planes import Rows
from upscaled_server.pipeline.network import Strips, through_network
from upscaled_server.pipeline.stages import StageClock

WIDTH, SCALE = 3, 2


class Steps:
    """A run as the pool gives it: each step wants `portion` rows more, the first `lag` rows beyond that, and
    gives what is finished. Steps fail while rows are missing. A `small` one takes all rows at once."""

    def __init__(self, height: int, portion: int, lag: int, *, small: bool = False) -> None:
        self.plan = SimpleNamespace(scale=SCALE)
        self.small = small
        self.height, self.portion, self.lag = height, portion, lag
        self.fed: list[Rows] = []
        self.held: list[int] = []
        self.waited = 0
        self.steps = 0
        self.fed_all = asyncio.Event()
        self.stepping = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def rows_fed(self) -> int:
        return sum(rows.shape[0] for rows in self.fed)

    @property
    def rows_wanted(self) -> int:
        needed = min(self.height, (self.steps + 1) * self.portion + self.lag)
        return 0 if self.done else max(0, needed - self.rows_fed)

    @property
    def rows_welcome(self) -> int:
        return self.height - self.rows_fed if self.small else 0

    @property
    def done(self) -> bool:
        return self.steps * self.portion >= self.height

    async def feed(self, rows: Rows) -> None:
        await asyncio.sleep(0)
        self.fed.append(rows)
        if self.rows_fed == self.height:
            self.fed_all.set()

    async def step(self) -> NDArray[Any]:
        assert not self.rows_wanted
        self.stepping.set()
        await asyncio.sleep(0.001)
        await self.go_on.wait()
        first = self.steps * self.portion
        self.steps += 1
        last = min(self.height, self.steps * self.portion)
        self.held.append(self.rows_fed - last)
        self.waited += bool(self.rows_wanted)
        rows = np.concatenate(self.fed)[first:last]
        return np.repeat(np.repeat(rows, SCALE, axis=0), SCALE, axis=1)


class Input:
    """The decoder's side."""

    def __init__(self, height: int) -> None:
        self.rows = np.arange(height * WIDTH * 3, dtype=np.uint16).reshape(height, WIDTH, 3)
        self.read = 0

    async def __call__(self, wanted: int) -> Strips | None:
        await asyncio.sleep(0)
        if self.read == len(self.rows):
            return None
        rows = self.rows[self.read : self.read + wanted]
        self.read += len(rows)
        return (rows,)


async def run_all(run: Steps, source: Input) -> NDArray[Any]:
    strips = [strip[0] async for strip in through_network(source, [run], StageClock())]  # type: ignore[list-item]
    return np.concatenate(strips)


@pytest.mark.parametrize("height", [1, 7, 64, 100])
@pytest.mark.parametrize(("portion", "lag"), [(8, 0), (8, 5), (100, 0), (1, 3)])
async def test_every_row_goes_through_once_and_in_order(height: int, portion: int, lag: int) -> None:
    source = Input(height)
    out = await run_all(Steps(height, portion, lag), source)
    assert np.array_equal(out[::SCALE, ::SCALE], source.rows)


async def test_the_rows_of_the_next_step_are_there_when_a_step_ends() -> None:
    run = Steps(400, 8, lag=5)
    await run_all(run, Input(400))
    assert run.waited <= 2  # until it is known how far ahead is enough


async def test_what_is_fed_ahead_stays_bounded_by_what_was_asked_for() -> None:
    run = Steps(400, 8, lag=5)
    await run_all(run, Input(400))
    first_wish = 8 + 5
    assert max(run.held) <= 2 * first_wish + 8


async def test_a_small_image_begins_with_its_first_rows_and_has_all_when_its_first_step_ends() -> None:
    run, source = Steps(100, 8, lag=5, small=True), Input(100)
    run.go_on.clear()
    running = asyncio.create_task(run_all(run, source))
    await run.stepping.wait()
    assert source.read == 8 + 5
    await asyncio.wait_for(run.fed_all.wait(), 10)
    assert run.steps == 0
    run.go_on.set()
    assert np.array_equal((await running)[::SCALE, ::SCALE], source.rows)


async def test_an_input_that_ends_too_early_says_how_many_rows_are_missing() -> None:
    with pytest.raises(ProcessingFailed, match="the input ended 4 rows too early"):
        await run_all(Steps(40, 8, lag=0), Input(36))


async def test_nothing_is_read_any_more_when_the_reader_leaves() -> None:
    source = Input(400)

    async def slow(wanted: int) -> Strips | None:
        if source.read >= 8:
            await asyncio.sleep(3600)
        return await source(wanted)

    run = Steps(400, 8, lag=0)
    rows = through_network(slow, [run], StageClock())  # type: ignore[list-item]
    await anext(rows)
    before = asyncio.all_tasks()
    assert len(before) == 2  # this test, and what reads ahead
    await rows.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_while_reading_ahead_is_raised_where_the_rows_are_wanted() -> None:
    source = Input(400)

    async def failing(wanted: int) -> Strips | None:
        if source.read >= 8:
            raise ProcessingFailed("the decoder ended early")
        return await source(wanted)

    run = Steps(400, 8, lag=0)
    rows = through_network(failing, [run], StageClock())  # type: ignore[list-item]
    assert (await anext(rows))[0].shape[0] == 8 * SCALE
    with pytest.raises(ProcessingFailed, match="the decoder ended early"):
        await anext(rows)


async def test_runs_that_finish_in_other_portions_are_both_brought_to_their_end() -> None:
    colour, alpha, source = Steps(100, 8, lag=0), Steps(100, 30, lag=5), Input(100)

    async def both(wanted: int) -> Strips | None:
        strips = await source(wanted)
        return None if strips is None else strips * 2

    found = [strip async for strip in through_network(both, [colour, alpha], StageClock())]  # type: ignore[list-item]
    for index in range(2):
        out = np.concatenate([strip[index] for strip in found])
        assert np.array_equal(out[::SCALE, ::SCALE], source.rows)
