"""What is asked of a run in a worker: in order, and without waiting for the event loop where it can be."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from upscaled_server.errors import DomainError, ProcessingFailed
from upscaled_server.pool.inference import Inference
from upscaled_server.pool.open_run import OpenRun, _PutDown
from upscaled_server.pool.protocol import RunClosed
from upscaled_server.tiling.plan import RunPlan

_LONG = 10.0
_ROWS = np.zeros((16, 8, 3), np.uint8)
_PLAN = RunPlan("bands", 8, 64, 4, 8, 16, 0, 1, 1, 1, 1000)


class _Run:
    """Notes what it is given; each step waits until it is let go."""

    plan = _PLAN
    batch_key = None
    precision = "fp32"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.holds_status, self.at_status, self.status_goes_on = (threading.Event() for _ in range(3))
        self.fed = self.given = 0

    @property
    def state_bytes(self) -> int:
        if self.holds_status.is_set():
            self.at_status.set()
            assert self.status_goes_on.wait(_LONG)
        return 0

    @property
    def rows_wanted(self) -> int:
        return max(0, self.given + 16 - self.fed)

    @property
    def done(self) -> bool:
        return self.given == 64

    def feed(self, rows: Any) -> None:
        if rows.shape[1] != 8:
            raise ProcessingFailed("rows of another width")
        self.calls.append("feed")
        self.fed += len(rows)

    def step(self, _: Any) -> Any:
        self.begun.release()
        assert self.let_go.acquire(timeout=_LONG)
        if self.rows_wanted:
            raise ProcessingFailed("rows are missing")
        self.calls.append("step")
        self.given += 16
        return np.zeros((64, 32, 3), np.uint8)

    def close(self) -> None:
        self.calls.append("close")


class _Desk:
    """A run, and what a worker asks of it."""

    def __init__(self) -> None:
        self.run = _Run()
        self.entry = OpenRun(run=self.run)
        self.inference = Inference()
        self.errands = ThreadPoolExecutor(1)

    def feed(self, rows: Any = _ROWS) -> asyncio.Task[Any]:
        return asyncio.create_task(self.entry.feed(rows, self.errands))

    def step(self) -> asyncio.Task[Any]:
        return asyncio.create_task(self.entry.step(self.inference, self.errands))


@pytest.fixture
def desk() -> Iterator[_Desk]:
    desk = _Desk()
    yield desk
    desk.run.let_go.release(10)
    desk.errands.shutdown()


async def _begun(desk: _Desk) -> None:
    assert await asyncio.to_thread(desk.run.begun.acquire, timeout=_LONG)


async def test_the_next_step_finds_its_rows_and_begins_while_the_event_loop_is_busy(desk: _Desk) -> None:
    assert (await desk.feed())["rows_fed"] == 16
    first = desk.step()
    await _begun(desk)
    fed, second = desk.feed(), desk.step()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not fed.done()

    desk.run.let_go.release()
    assert desk.run.begun.acquire(timeout=_LONG)  # this holds the event loop
    assert desk.run.calls == ["feed", "step", "feed"]
    assert not first.done()

    desk.run.let_go.release()
    _, status, seconds = await first
    assert (status["rows_fed"], status["done"]) == (32, False)
    assert status["pixels"] == pytest.approx(_PLAN.computed_pixels / 4)
    assert seconds > 0
    assert (await fed)["rows_fed"] == 32
    assert (await second)[1]["rows_wanted"] == 16


async def test_rows_that_come_behind_the_last_step_are_fed_without_another(desk: _Desk) -> None:
    await desk.feed()
    step = desk.step()
    await _begun(desk)
    fed = [desk.feed(), desk.feed()]
    await asyncio.sleep(0)
    desk.run.let_go.release()
    statuses = await asyncio.wait_for(asyncio.gather(*fed), _LONG)
    assert [each["rows_fed"] for each in statuses] == [32, 48]
    await step


async def test_rows_that_come_between_a_steps_end_and_its_answer_are_fed(desk: _Desk) -> None:
    await desk.feed()
    step = desk.step()
    await _begun(desk)
    desk.run.let_go.release()
    # This holds the event loop, which does not know yet that the step has ended.
    assert not wait([each.done for each in desk.entry._submitted], _LONG).not_done
    fed, last = desk.feed(), desk.feed()
    assert [(await each)["rows_fed"] for each in (fed, last)] == [32, 48]
    await step


async def test_rows_that_come_when_a_step_has_looked_for_them_the_last_time_are_fed(desk: _Desk) -> None:
    await desk.feed()
    step = desk.step()
    await _begun(desk)
    desk.run.holds_status.set()
    desk.run.let_go.release()
    assert await asyncio.to_thread(desk.run.at_status.wait, _LONG)
    fed = desk.feed()
    await asyncio.sleep(0)
    assert not fed.done()
    desk.run.holds_status.clear()
    desk.run.status_goes_on.set()
    assert (await asyncio.wait_for(fed, _LONG))["rows_fed"] == 32
    await step


async def test_a_status_is_of_one_moment_while_the_step_behind_feeds(desk: _Desk) -> None:
    """What was fed and what is wanted are not read with rows in between, which would be counted twice."""
    await desk.feed()
    entry, run = desk.entry, desk.run
    read, fed = threading.Event(), threading.Event()

    def wanted(run: _Run) -> int:
        found = max(0, run.given + 16 - run.fed)
        if run.given and not read.is_set():
            read.set()
            fed.wait(0.2)
        return found

    class Held(_Run):
        rows_wanted = property(wanted)

    run.__class__ = Held

    def feed() -> None:
        assert read.wait(_LONG)
        entry._put_down.append(_PutDown(_ROWS))
        entry._feed_what_is_put_down()
        fed.set()

    feeding = threading.Thread(target=feed)
    feeding.start()
    step = desk.step()
    await _begun(desk)
    desk.run.let_go.release()
    status = (await step)[1]
    await asyncio.to_thread(feeding.join)
    assert status["rows_fed"] + status["rows_wanted"] == 32
    assert entry.status()["rows_fed"] == 32


async def test_rows_that_do_not_fit_fail_whoever_brought_them_and_the_step_that_needs_them(
    desk: _Desk,
) -> None:
    await desk.feed()
    first = desk.step()
    await _begun(desk)
    bad, second = desk.feed(np.zeros((16, 9, 3), np.uint8)), desk.step()
    await asyncio.sleep(0)
    desk.run.let_go.release(2)
    await first
    with pytest.raises(ProcessingFailed, match="another width"):
        await bad
    with pytest.raises(ProcessingFailed, match="missing"):
        await second


async def test_the_step_behind_one_that_failed_is_not_computed(desk: _Desk) -> None:
    first, second = desk.step(), desk.step()
    await _begun(desk)
    fed = desk.feed()
    await asyncio.sleep(0)
    desk.run.let_go.release()
    outcomes = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), _LONG)
    assert [type(each) for each in outcomes] == [ProcessingFailed, RunClosed]
    assert (await fed)["rows_fed"] == 16
    assert "step" not in desk.run.calls


async def test_closing_waits_for_the_step_that_is_computed_and_drops_all_behind_it(desk: _Desk) -> None:
    await desk.feed()
    first = desk.step()
    await _begun(desk)
    fed, second = desk.feed(), desk.step()
    await asyncio.sleep(0)
    desk.entry.close_soon()
    closing = asyncio.create_task(desk.entry.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    assert "close" not in desk.run.calls
    desk.run.let_go.release()
    await asyncio.wait_for(closing, _LONG)
    await first
    outcomes = await asyncio.gather(fed, second, return_exceptions=True)
    assert isinstance(outcomes[1], RunClosed)
    assert desk.run.calls.count("step") == 1
    assert desk.run.calls[-1] == "close"
    with pytest.raises(RunClosed):
        await desk.feed()


async def test_a_step_that_fails_while_closing_waits_for_it_is_no_complaint_in_the_log(
    desk: _Desk, caplog: pytest.LogCaptureFixture
) -> None:
    step = desk.step()
    await _begun(desk)
    closing = asyncio.create_task(desk.entry.close())
    await asyncio.sleep(0.05)
    desk.run.let_go.release()  # without rows
    await asyncio.wait_for(closing, _LONG)
    with pytest.raises(ProcessingFailed, match="missing"):
        await step
    gc.collect()
    assert caplog.records == []


async def test_rows_that_wait_for_a_step_that_never_begins_are_refused_when_it_closes(desk: _Desk) -> None:
    blocker = threading.Event()
    other = desk.inference.submit(lambda _: blocker.wait())
    step = desk.step()
    await asyncio.sleep(0)
    fed = desk.feed()
    await asyncio.sleep(0)
    await asyncio.wait_for(desk.entry.close(), _LONG)
    blocker.set()
    other.done.result(_LONG)
    outcomes = await asyncio.gather(step, fed, return_exceptions=True)
    assert [type(each) for each in outcomes] == [RunClosed, RunClosed]
    assert desk.run.calls == ["close"]


async def _error_of(asked: Coroutine[Any, Any, Any]) -> weakref.ref[BaseException]:
    """As a worker answers: it tells of the error, and keeps nothing."""
    try:
        await asked
    except DomainError as error:
        return weakref.ref(error)
    raise AssertionError


@pytest.mark.usefixtures("uncollected")
async def test_rows_that_are_refused_are_let_go_at_once(desk: _Desk) -> None:
    step = desk.step()
    await _begun(desk)
    rows, bad = _ROWS.copy(), np.zeros((16, 9, 3), np.uint8)
    held = [weakref.ref(rows), weakref.ref(bad)]
    answers = [
        asyncio.create_task(_error_of(desk.entry.feed(rows, desk.errands))),
        asyncio.create_task(_error_of(desk.entry.feed(bad, desk.errands))),
    ]
    del rows, bad
    await asyncio.sleep(0)
    desk.entry.close_soon()
    closing = asyncio.create_task(desk.entry.close())
    await asyncio.sleep(0)
    desk.run.let_go.release()
    await asyncio.gather(step, closing, return_exceptions=True)
    held += [await each for each in answers]
    del step, closing, answers
    await asyncio.sleep(0)
    assert [each() for each in held] == [None] * 4


@pytest.mark.usefixtures("uncollected")
async def test_rows_that_do_not_fit_are_let_go_at_once(desk: _Desk) -> None:
    rows = np.zeros((16, 9, 3), np.uint8)
    held = [weakref.ref(rows)]
    asked = desk.entry.feed(rows, desk.errands)
    del rows
    held.append(await _error_of(asked))
    del asked
    await asyncio.sleep(0)
    assert [each() for each in held] == [None] * 2


@pytest.mark.usefixtures("uncollected")
async def test_what_a_step_held_that_failed_is_let_go_at_once(desk: _Desk) -> None:
    desk.run.let_go.release()  # without rows
    error = await _error_of(desk.entry.step(desk.inference, desk.errands))
    # The thread that computed it lets go a moment after it has told the result.
    desk.run.let_go.release()
    await desk.feed()
    with pytest.raises(RunClosed):
        await desk.step()
    assert error() is None
