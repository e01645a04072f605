"""One image on its way through a worker, and through the next one when that dies; or once more through the
same, where it could not go on there as it was begun."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.provenance import Provenance
from upscaled_server.errors import DomainError, MustBeginAnew, OutOfMemory, ProcessingFailed, WorkerLost
from upscaled_server.pool.calls import Answer
from upscaled_server.pool.devices import Device
from upscaled_server.pool.life import Life, Terms
from upscaled_server.pool.lives import Lives
from upscaled_server.pool.replay import is_small
from upscaled_server.pool.turns import Turns
from upscaled_server.telemetry.tracing import Span
from upscaled_server.tiling.plan import RunPlan

_T = TypeVar("_T")


class PoolRun:
    """Feed rows until `rows_wanted` is 0, then `step`, until `done`. Made by `Pool.open`.

    As soon as the rows for it are there the next step is asked for, one ahead of the caller, so that the
    device works while the caller handles the rows before. `plan`, `provenance` and `device` say how the image
    is computed: the last rows of it, where something had to be changed on the way.

    When the worker dies the run goes on with the next one, and gives the same rows. Where the memory does not
    suffice for its bands, it goes on in lower ones. Every call raises `Unavailable` when no worker comes up,
    `WorkerLost` when the pool is closed or too much would have to be kept, and `ProcessingFailed` when it is
    this run's own work that ends workers.
    """

    def __init__(self, plan: RunPlan, provenance: Provenance, device: Device, terms: Terms) -> None:
        self.device = device
        self.steps_done = 0
        self._provenance = provenance
        self._terms = terms
        self._step: asyncio.Task[NDArray[Any]] | None = None
        self._stepping = False
        self._turns = Turns(
            plan,
            device.name,
            terms,
            is_awaited=lambda: self._stepping and not self._closed,
            is_suspect=lambda: self._lives.suspect,
        )
        self._lives = Lives(plan, terms, self._turns, self._check_open)
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def begin(self) -> None:
        """Open the run on the worker; to be called once, before everything else."""
        await self._lives.begin()
        self._begin_step()

    @property
    def plan(self) -> RunPlan:
        return self._lives.kept.plan

    @property
    def provenance(self) -> Provenance:
        precision = None if self._life is None else self._life.precision
        return replace(self._provenance, precision=precision or self._provenance.precision)

    @property
    def rows_wanted(self) -> int:
        """Input rows to feed before the next step can do something; 0: call `step`. 0 as well when done.

        More is taken, and may be brought while a step is computed, so that the next one follows at once.
        """
        life = self._life
        if life is None or life.done:
            return 0
        return max(0, life.needed - self._lives.kept.fed)

    @property
    def rows_welcome(self) -> int:
        """Input rows beyond those that may be brought at once, whatever step comes next: the rest of a small
        image. 0: bring no more than one step's rows ahead."""
        return self.plan.height - self._lives.kept.fed if is_small(self.plan) else 0

    @property
    def done(self) -> bool:
        """Whether every output row has been returned by `step`."""
        return self._life is not None and self._life.done and self._step is None and not self._turns.ahead

    @property
    def span(self) -> Span:
        """What its steps are parts of."""
        return self._turns.span

    @span.setter
    def span(self, span: Span) -> None:
        self._turns.span = span

    @property
    def state_bytes(self) -> int:
        """Bytes that the run holds in the worker."""
        return 0 if self._life is None else self._life.state_bytes

    async def feed(self, rows: NDArray[Any]) -> None:
        """Give the next input rows: (n, width, 3) RGB, uint8 or uint16. They are on their way when this
        returns. An array that owns its memory is kept as well, and must not be changed any more; a view may.

        Cancelling does not take them back. Raises `ProcessingFailed` for rows that do not fit. What the
        worker raises when it takes them, the next call raises.
        """
        self._check_usable()
        if rows.ndim != 3 or rows.shape[1:] != (self.plan.width, 3):
            raise ProcessingFailed(f"rows of {self.plan.width} RGB pixels are wanted, not {rows.shape}")
        # A task of its own: cancelled half-way, nobody would know whether the worker has the rows.
        feeding = self._own(self._feed(rows), "feed")
        with self._terms.attended():
            await asyncio.shield(feeding)

    async def step(self) -> NDArray[Any]:
        """The next finished output rows: (n, width * scale, planes), uint8 or uint16, RGB or luma as asked
        for at `open`; n may be 0, and two runs of one plan may give theirs in other portions.

        The array is read-only and views the worker's memory, which is used again once the array and every
        view of it are gone: hold it no longer than needed. Cancelling loses nothing: the next call returns
        those rows. One call at a time. Raises `ProcessingFailed` when rows are missing or the run is done;
        `OutOfMemory` and `MustBeginAnew` when beginning anew is no help, or cannot be done.
        """
        self._check_usable()
        if self._stepping:
            raise ProcessingFailed("this run is being stepped already")
        if self._step is None:
            self._begin_step()
        step = self._step
        if step is None:
            raise ProcessingFailed(
                "the run is done" if self.done else f"{self.rows_wanted} more rows must be fed first"
            )
        self._stepping = True
        if self._life is not None:
            self._turns.go_ahead(self._life)
        try:
            with self._terms.attended():
                rows = await asyncio.shield(step)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if step.cancelled() and not (task is not None and task.cancelling()):
                # The step was cancelled by `close`, not this call by its caller.
                raise ProcessingFailed("the run is closed") from None
            raise
        except ProcessingFailed:
            self._check_usable()  # rows that the worker could not take are missing then
            raise
        finally:
            self._stepping = False
        self._step = None
        self.steps_done += 1
        self._begin_step()
        return rows

    async def close(self) -> None:
        """Give everything back. A step that waits for its turn is dropped, one that runs is waited for and
        thrown away.

        Called by `Pool.open`'s context manager, which does not wait for it.
        """
        self._closed = True
        # An error that was raised here may hold this run for longer than it is admitted.
        self._lives.kept.drop()
        if self._step is not None and not self._turns.asked:
            self._step.cancel()
        self._turns.withdraw()
        try:
            if self._life is not None:
                # The worker forgets the steps that it has not begun as soon as it reads this.
                await self._life.worker.call("close", run=self._life.number)
        finally:
            step, self._step = self._step, None
            if step is not None:
                await asyncio.wait([step])
            await self._turns.wait_closed()

    @property
    def _life(self) -> Life | None:
        return self._lives.now

    def _begin_step(self) -> None:
        life = self._life
        if self._closed or life is None:
            return
        if self._step is not None:
            self._turns.go_ahead(life)
        elif self._turns.ahead or (life.can_step and not self.rows_wanted):
            self._step = self._own(self._run_step(), "step")

    async def _run_step(self) -> NDArray[Any]:
        """One step that gives rows which the caller does not have yet; in a new life, those before it too."""
        while (life := self._life) is not None and (life.can_step or self._turns.ahead):
            try:
                rows = await self._step_in(life)
            except WorkerLost as lost:
                await self._move_on_from(life, lost)
                continue
            except (OutOfMemory, MustBeginAnew) as error:
                await self._renew(life, error)
                continue
            new = life.take_new(rows)
            if new is not None:
                self._lives.kept.deliver(new.shape[0])
                return new
        # The new life wants rows that nobody has asked the caller for yet.
        return np.empty((0, self.plan.width * self.plan.scale, self._terms.planes), self._terms.out_dtype)

    async def _step_in(self, life: Life) -> NDArray[Any]:
        answer = await self._turns.step(life)
        if answer.rows is None:
            raise ProcessingFailed("the worker answered a step without rows")
        return answer.rows

    async def _feed(self, rows: NDArray[Any]) -> None:
        given = await self._lives.give(rows)
        if given is None:
            self._begin_step()
            return
        taken = self._own(self._take(*given), "rows taken")
        taken.add_done_callback(self._note_failure)
        if self.device.kind == "cpu":
            self._begin_step()
        else:
            # The answer must be there first: it says what the step can be taken with.
            await taken

    async def _take(self, life: Life, answer: asyncio.Future[Answer]) -> None:
        """The worker takes rows that were sent, after the steps that were asked for before them."""
        try:
            status = (await answer).result
        except WorkerLost as lost:
            await self._move_on_from(life, lost)
        except DomainError:
            if not life.over:  # else the next life is given the rows
                raise
        else:
            life.take_status(status)
            self._begin_step()

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    async def _renew(self, life: Life, error: OutOfMemory | MustBeginAnew) -> None:
        await self._lives.renew(life, error)
        self._begin_step()

    async def _move_on_from(self, life: Life, lost: WorkerLost) -> None:
        await self._lives.move_on_from(life, lost)
        self._begin_step()

    def _check_open(self) -> None:
        if self._closed:
            raise ProcessingFailed("the run is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failure is not None:
            raise self._failure

    def _own(self, work: Coroutine[Any, Any, _T], what: str) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name=f"run: {what}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # raised where it is awaited; when the run was closed before, nobody wants it
