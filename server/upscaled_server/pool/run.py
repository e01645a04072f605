"""One image on its way through a worker, seen from the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from upscaled_server.engine.provenance import Provenance
from upscaled_server.errors import ProcessingFailed
from upscaled_server.pool.devices import Device
from upscaled_server.pool.process import Answer, WorkerProcess
from upscaled_server.pool.turns import Turns
from upscaled_server.tiling.plan import RunPlan

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a run lives: the worker it is pinned to, and whose turn it is there."""

    device: Device
    worker: WorkerProcess
    turns: Turns
    number: int


class PoolRun:
    """Feed rows until `rows_wanted` is 0, then `step`, until `done`. Made by `Pool.open`.

    As soon as the rows for it are there the next step is asked for, one ahead of the caller, so that the
    device works while the caller handles the rows before. `plan`, `provenance` and `device` say how the image
    is computed.

    Every call raises `WorkerLost` once the worker is gone: then the run can only be closed, and the image
    begun again.
    """

    def __init__(
        self,
        seat: Seat,
        plan: RunPlan,
        provenance: Provenance,
        status: dict[str, Any],
        *,
        step_limit_seconds: float,
        on_step: Callable[[float], None],
        attended: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.plan = plan
        self.provenance = provenance
        self.device = seat.device
        self.steps_done = 0
        self._seat = seat
        self._status = status
        self._step_limit_seconds = step_limit_seconds
        self._on_step = on_step
        self._attended = attended
        self._step: asyncio.Task[Answer] | None = None
        self._step_granted = False
        self._stepping = False
        self._feeding: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def rows_wanted(self) -> int:
        """Input rows to feed before the next step can do something; 0: call `step`. 0 as well when done."""
        return int(self._status["rows_wanted"])

    @property
    def done(self) -> bool:
        """Whether every output row has been returned by `step`."""
        return bool(self._status["done"]) and self._step is None

    @property
    def state_bytes(self) -> int:
        """Bytes that the run holds in the worker."""
        return int(self._status["state_bytes"])

    @property
    def steps_waiting(self) -> int:
        """Steps of all runs that wait for this run's device, this run's included."""
        return self._seat.turns.waiting

    async def feed(self, rows: NDArray[Any]) -> None:
        """Give the next input rows: (n, width, 3) RGB, uint8 or uint16. They are copied before this returns.

        Cancelling does not take them back. Raises `ProcessingFailed` for rows that do not fit, `WorkerLost`.
        """
        self._check_open()
        # A task of its own: cancelled half-way, nobody would know whether the worker has the rows.
        task = self._own(self._feed(rows), "feed")
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)
        with self._attended():
            await asyncio.shield(task)

    async def step(self) -> NDArray[Any]:
        """The next finished output rows: (n, width * scale, planes), uint8 or uint16, RGB or luma as asked
        for at `open`; n may be 0.

        The array is read-only and views the worker's memory, which is used again once the array and every
        view of it are gone: hold it no longer than needed. Cancelling loses nothing: the next call returns
        those rows. One call at a time. Raises `ProcessingFailed` when rows are missing or the run is done,
        `OutOfMemory`, `WorkerLost`.
        """
        self._check_open()
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
        try:
            with self._attended():
                answer = await asyncio.shield(step)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if step.cancelled() and not (task is not None and task.cancelling()):
                # The step was cancelled by `close`, not this call by its caller.
                raise ProcessingFailed("the run is closed") from None
            raise
        finally:
            self._stepping = False
        self._step = None
        self.steps_done += 1
        self._begin_step()
        if answer.rows is None:
            raise ProcessingFailed("the worker answered a step without rows")
        return answer.rows

    async def close(self) -> None:
        """Give everything back. A step that waits for its turn is dropped, one that runs is waited for and
        thrown away.

        Called by `Pool.open`'s context manager, which does not wait for it.
        """
        self._closed = True
        if self._step is not None and not self._step_granted:
            self._step.cancel()
        try:
            # The worker forgets the steps that it has not begun as soon as it reads this.
            await self._seat.worker.call("close", run=self._seat.number)
        finally:
            step, self._step = self._step, None
            if step is not None:
                await asyncio.wait([step])

    def _begin_step(self) -> None:
        if self._closed or self._step is not None or self._status["done"] or self.rows_wanted:
            return
        self._step_granted = False
        self._step = self._own(self._run_step(), "step")

    async def _run_step(self) -> Answer:
        seat = self._seat
        await seat.turns.wait(seat.number)
        self._step_granted = True
        try:
            answer = await seat.worker.call("step", run=seat.number, limit_seconds=self._step_limit_seconds)
        finally:
            seat.turns.done()
        self._status = answer.result
        self._on_step(float(answer.result["seconds"]))
        return answer

    async def _feed(self, rows: NDArray[Any]) -> None:
        answer = await self._seat.worker.call("feed", run=self._seat.number, pixels=rows)
        self._status = answer.result
        self._begin_step()

    def _check_open(self) -> None:
        if self._closed:
            raise ProcessingFailed("the run is closed")

    def _own(self, work: Coroutine[Any, Any, _T], what: str) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name=f"run {self._seat.number}: {what}")
        task.add_done_callback(_look_at)
        return task


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # raised where it is awaited; when the run was closed before, nobody wants it
