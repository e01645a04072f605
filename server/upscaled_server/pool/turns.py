"""The steps of one run on its device: each waits for its turn, is asked of the worker, and gives the turn
back.

While a step is computed and the caller waits for it, the next is asked for behind it if nobody else wants the
device. So the device goes on at once, and not when the rows of the one have come here and the request for the
other has gone back. Nothing piles up: whoever reads the rows waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from upscaled_server.pool.calls import Answer
from upscaled_server.pool.dispatch import Turn
from upscaled_server.pool.inference import shares_cores
from upscaled_server.pool.life import Life, Terms
from upscaled_server.pool.scheduler.policy import Unit
from upscaled_server.telemetry import tracing
from upscaled_server.tiling.plan import RunPlan


class Turns:
    """`is_awaited` says whether the caller waits for the step that is computed, `is_suspect` whether the run
    was there when a worker died.

    One `step` at a time; it may be cancelled as long as it is not `asked`.
    """

    def __init__(
        self,
        plan: RunPlan,
        device: str,
        terms: Terms,
        *,
        is_awaited: Callable[[], bool],
        is_suspect: Callable[[], bool],
    ) -> None:
        self.span = tracing.current()
        """What the steps are parts of."""
        self.asked = False
        """Whether the step has its turn, so that the worker computes it."""
        self._device = device
        self._terms = terms
        self._is_awaited = is_awaited
        self._is_suspect = is_suspect
        self._shares = shares_cores(plan)
        self._steps_left = plan.steps
        self._first_number = 0
        self._next: Turn | None = None
        self._ahead: asyncio.Task[Answer] | None = None
        self._asking_ahead: set[asyncio.Task[Answer]] = set()

    @property
    def ahead(self) -> bool:
        """Whether a step was asked for that `step` has not begun to wait for."""
        return self._ahead is not None

    async def step(self, life: Life) -> Answer:
        """The next step of this life. Raises what the worker raises, and `WorkerLost`."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            answer = await self._in_turn(life)
        else:
            self.asked = not ahead.done()
            # The caller may have been waiting since before it was asked for.
            self.go_ahead(life)
            answer = await ahead
        life.take_status(answer.result)
        self._steps_left -= 1
        return answer

    def go_ahead(self, life: Life) -> None:
        """Ask for the step behind the one that is computed, if that can be done now."""
        if not self.asked or self._ahead is not None or not self._is_awaited() or not life.can_step_ahead:
            return
        unit = self._unit(life)
        if self._terms.dispatcher.follow(unit):
            life.steps_asked += 1
            task = asyncio.get_running_loop().create_task(self._ask(life, unit), name="run: step ahead")
            self._asking_ahead.add(task)
            task.add_done_callback(self._asked_ahead)
            self._ahead = task

    def begin(self, plan: RunPlan) -> None:
        """A life begins, with this plan for the rest of the image."""
        self._steps_left = plan.steps

    def withdraw(self) -> None:
        """Let go of the turn that comes next, and of the step ahead, which its worker may still compute."""
        if self._next is not None:
            self._terms.dispatcher.withdraw(self._next)
            self._next = None
        self._ahead = None

    async def wait_closed(self) -> None:
        """Returns when the worker has answered everything."""
        if self._asking_ahead:
            await asyncio.wait(self._asking_ahead)

    async def _in_turn(self, life: Life) -> Answer:
        dispatcher = self._terms.dispatcher
        turn, self._next = self._next or dispatcher.submit(self._unit(life)), None
        self._remember(turn[0])
        await dispatcher.wait(turn)
        self.asked = True
        life.steps_asked += 1
        return await self._ask(life, turn[0])

    async def _ask(self, life: Life, unit: Unit) -> Answer:
        """A step of a unit that has its turn, which ends with it."""
        terms, seconds = self._terms, None
        together = [] if unit.grant is None else [each.run for each in unit.grant.units]
        try:
            pending = await life.worker.ask(
                "step",
                run=life.number,
                together=together,
                limit_seconds=terms.step_limit_seconds,
                shares=self._shares,
            )
            self.go_ahead(life)
            answer = await pending
            seconds = float(answer.result["seconds"])
            if self._ahead is None and self._is_awaited():
                # The caller will want the next at once: before `done` gives the device to others, so that an
                # image that goes first does so with all of its steps.
                life.take_status(answer.result)
                if life.can_step:
                    self._next = terms.dispatcher.submit(self._unit(life))
        finally:
            self.asked = False
            terms.dispatcher.done(unit, seconds)
        terms.on_step(seconds, float(answer.result["pixels"]))
        return answer

    def _unit(self, life: Life) -> Unit:
        terms = self._terms
        return Unit(
            device=self._device,
            run=life.number,
            batch_key=life.batch_key,
            cost=terms.step_seconds,
            caller=terms.caller,
            weight=terms.weight,
            batch=terms.batch,
            latest_start=terms.latest_start(terms.step_seconds * max(1, self._steps_left)),
            since=self._first_number,
            suspect=self._is_suspect(),
            span=self.span,
        )

    def _remember(self, unit: Unit) -> None:
        if self._terms.at_a_stretch:
            self._first_number = unit.number

    def _asked_ahead(self, task: asyncio.Task[Answer]) -> None:
        self._asking_ahead.discard(task)
        if not task.cancelled():
            task.exception()  # raised where it is awaited; nobody may want it any more
