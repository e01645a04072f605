"""When a run's next step is asked for: in its turn, or behind the one that is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from upscaled_server.engine.variant import Variant
from upscaled_server.errors import WorkerLost
from upscaled_server.pool.calls import Answer
from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.life import Life, Terms
from upscaled_server.pool.replay import Restart
from upscaled_server.pool.scheduler.policy import Policy, Unit
from upscaled_server.pool.turns import Turns
from upscaled_server.tiling.plan import RunPlan

PLAN = RunPlan(
    way="bands",
    width=8,
    height=100,
    scale=4,
    tile_width=8,
    tile_height=10,
    halo=20,
    multiple=1,
    parallel=2,
    threads=1,
    bytes_per_input_pixel=1,
)


class Worker:
    """Steps that end when the test says so, in order."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self._waiting: list[asyncio.Future[Answer]] = []

    async def ask(self, op: str, **_: Any) -> asyncio.Future[Answer]:
        assert op == "step"
        self.asked += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        return answer

    async def end_step(self) -> None:
        self.answer()
        await _settled()

    def answer(self) -> None:
        self.answered += 1
        done = self.answered == PLAN.steps
        wanted = 0 if done else PLAN.rows_for_step(self.answered + 1)
        status = {
            "rows_fed": PLAN.height,
            "rows_wanted": wanted - PLAN.height,
            "done": done,
            "state_bytes": 0,
            "batch_key": None,
            "precision": "fp32",
            "seconds": 0.1,
            "pixels": 8,
        }
        self._waiting.pop(0).set_result(Answer(status, None))

    async def be_lost(self) -> None:
        for each in self._waiting:
            each.set_exception(WorkerLost("ended", device="cpu"))
        self._waiting.clear()
        await _settled()


@dataclass
class Setting:
    dispatcher: Dispatcher = field(default_factory=lambda: Dispatcher(("cpu",), Policy()))
    worker: Worker = field(default_factory=Worker)
    awaited: bool = True
    batch: bool = False

    def turns(self, plan: RunPlan = PLAN) -> tuple[Turns, Life]:
        life = Life(self.worker, 7, Restart(plan, 0, 0))  # type: ignore[arg-type]
        life.opened, life.sent = True, plan.height
        is_awaited = lambda: self.awaited  # noqa: E731
        return Turns(plan, "cpu", self._terms(), is_awaited=is_awaited, is_suspect=lambda: False), life

    def other(self) -> Unit:
        return Unit(device="cpu", run=8, caller="other")

    def _terms(self) -> Terms:
        @contextmanager
        def attended() -> Iterator[None]:
            yield

        async def find_worker(_: WorkerLost | None) -> Any:
            return self.worker

        return Terms(
            variant=Variant("model"),
            out_bits=8,
            planes=3,
            caller="",
            weight=1.0,
            batch=self.batch,
            deadline=None,
            step_seconds=0.1,
            step_limit_seconds=60.0,
            at_a_stretch=False,
            dispatcher=self.dispatcher,
            find_worker=find_worker,
            new_number=lambda: 1,
            on_step=lambda *_: None,
            attended=attended,
        )


@pytest.fixture
async def setting() -> Setting:
    return Setting()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_while_a_step_is_waited_for_the_next_is_asked_for_behind_it_until_the_last(
    setting: Setting,
) -> None:
    turns, life = setting.turns()
    steps = PLAN.steps
    assert steps > 3
    for number in range(1, steps + 1):
        # Its caller waits before it begins, when nothing may be asked for behind it yet.
        turns.go_ahead(life)
        step = asyncio.create_task(turns.step(life))
        await _settled()
        assert setting.worker.asked == min(number + 1, steps)
        assert turns.ahead == (number < steps)
        await setting.worker.end_step()
        await step
    assert life.done
    assert not turns.ahead
    assert setting.dispatcher.waiting == 0
    turn = setting.dispatcher.submit(Unit(device="cpu", run=8, suspect=True))
    await setting.dispatcher.wait(turn)  # alone on the device: every turn was given back


async def test_a_step_has_one_turn_whenever_the_one_ahead_is_asked_for(setting: Setting) -> None:
    turns, life = setting.turns()
    first = asyncio.create_task(turns.step(life))
    await _settled()
    await setting.worker.end_step()
    await first
    setting.awaited = False
    second = asyncio.create_task(turns.step(life))  # that was asked for ahead
    await _settled()
    setting.awaited = True
    setting.worker.answer()
    for _ in range(5):  # its answer is on the way through the tasks, and rows come
        await asyncio.sleep(0)
        turns.go_ahead(life)
    await second
    for _ in range(PLAN.steps - 2):
        step = asyncio.create_task(turns.step(life))
        await _settled()
        await setting.worker.end_step()
        await step
    assert setting.worker.asked == PLAN.steps
    turn = setting.dispatcher.submit(Unit(device="cpu", run=8, suspect=True))
    await asyncio.wait_for(setting.dispatcher.wait(turn), 5)  # alone: every turn was given back


async def test_nothing_goes_ahead_of_a_caller_who_does_not_wait(setting: Setting) -> None:
    turns, life = setting.turns()
    setting.awaited = False
    step = asyncio.create_task(turns.step(life))
    await _settled()
    turns.go_ahead(life)
    await setting.worker.end_step()
    await step
    assert setting.worker.asked == 1
    assert not turns.ahead


async def test_batch_work_does_not_go_ahead(setting: Setting) -> None:
    setting.batch = True
    turns, life = setting.turns()
    step = asyncio.create_task(turns.step(life))
    await _settled()
    assert setting.worker.asked == 1
    await setting.worker.end_step()
    await step


async def test_nothing_goes_ahead_of_others_who_wait(setting: Setting) -> None:
    turns, life = setting.turns()
    setting.awaited = False
    step = asyncio.create_task(turns.step(life))
    await _settled()
    others = [setting.dispatcher.submit(setting.other()) for _ in range(2)]
    assert setting.dispatcher.waiting == 1
    setting.awaited = True
    turns.go_ahead(life)
    assert not turns.ahead
    setting.dispatcher.withdraw(others[1])
    turns.go_ahead(life)
    assert turns.ahead
    for _ in range(2):
        await setting.worker.end_step()
    await step


async def test_whoever_comes_gets_the_device_before_the_step_ahead(setting: Setting) -> None:
    turns, life = setting.turns()
    step = asyncio.create_task(turns.step(life))
    await _settled()
    assert setting.worker.asked == 2
    await asyncio.wait_for(setting.dispatcher.wait(setting.dispatcher.submit(setting.other())), 5)
    await setting.worker.end_step()
    await step
    assert setting.worker.asked == 2


async def test_nothing_goes_ahead_of_its_rows(setting: Setting) -> None:
    turns, life = setting.turns()
    life.sent = PLAN.rows_for_step(2) - 1
    step = asyncio.create_task(turns.step(life))
    await _settled()
    turns.go_ahead(life)
    assert not turns.ahead
    life.sent += 1
    turns.go_ahead(life)
    assert turns.ahead
    await _settled()
    for _ in range(2):
        await setting.worker.end_step()
    await step


async def test_only_bands_go_ahead(setting: Setting) -> None:
    turns, life = setting.turns(RunPlan("tiles", 8, 100, 4, 8, 10, 2, 1, 1, 1, 1))
    step = asyncio.create_task(turns.step(life))
    await _settled()
    assert setting.worker.asked == 1
    await setting.worker.end_step()
    await step


async def test_a_lost_worker_takes_the_step_ahead_with_it(setting: Setting) -> None:
    turns, life = setting.turns()
    step = asyncio.create_task(turns.step(life))
    await _settled()
    assert turns.ahead
    await setting.worker.be_lost()
    with pytest.raises(WorkerLost):
        await step
    turns.withdraw()
    assert not turns.ahead
    await asyncio.wait_for(turns.wait_closed(), 5)
    turn = setting.dispatcher.submit(Unit(device="cpu", run=8, suspect=True))
    await asyncio.wait_for(setting.dispatcher.wait(turn), 5)


async def test_a_closed_run_waits_for_the_answer_to_the_step_ahead(setting: Setting) -> None:
    turns, life = setting.turns()
    step = asyncio.create_task(turns.step(life))
    await _settled()
    turns.withdraw()
    closing = asyncio.create_task(turns.wait_closed())
    await setting.worker.end_step()
    await step
    assert not closing.done()
    await setting.worker.end_step()
    await asyncio.wait_for(closing, 5)
