"""A run's time in one worker, and what it takes to begin another."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.run import Bits, Planes
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import MustBeginAnew, OutOfMemory, ProcessingFailed, WorkerLost
from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.process import WorkerProcess
from upscaled_server.pool.replay import Kept, Restart
from upscaled_server.pool.transport import Message
from upscaled_server.tiling.plan import RunPlan

# A run is given up after two workers that crashed or hung over the same rows. Whoever kills a worker from
# outside may have nothing to do with what it computes, but the kernel short of memory looks the same.
_CRASH = 2
_KILLED_FROM_OUTSIDE = 1
_TOO_MUCH = 4

# A card goes to a finer precision twice at most: from fp16 to bf16, and to fp32.
_MOST_RENEWALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a run is computed and for whom: what stays the same over its lives. Times in seconds.

    `at_a_stretch`: all its steps go in the place of the first, see `AT_A_STRETCH_SECONDS`.
    `on_step` is told of each step's device seconds, and how many of the plan's input pixels it computed.
    `find_worker` waits for the device's worker with the model in its memory.
    """

    variant: Variant
    out_bits: Bits
    planes: Planes
    caller: str
    weight: float
    batch: bool
    deadline: float | None
    step_seconds: float
    step_limit_seconds: float
    at_a_stretch: bool
    dispatcher: Dispatcher
    find_worker: Callable[[WorkerLost | None], Awaitable[WorkerProcess]]
    new_number: Callable[[], int]
    on_step: Callable[[float, float], None]
    attended: Callable[[], AbstractContextManager[None]]

    @property
    def out_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.out_bits == 8 else np.uint16)

    def latest_start(self, remaining_seconds: float) -> float:
        """When a run that needs the device for so long must be preferred to be done by its deadline."""
        return math.inf if self.deadline is None else self.deadline - 2 * remaining_seconds

    def opening(self, plan: RunPlan) -> Message:
        """The fields of an `open` request."""
        return {
            "variant": self.variant.to_dict(),
            "plan": plan.to_dict(),
            "out_bits": self.out_bits,
            "planes": self.planes,
        }


class Life:
    """`needed`: input rows of the image that must have been sent before the next step; `sent` have been.
    `steps_asked`: how many steps the worker was asked for. `over`: given up, though the worker lives."""

    def __init__(self, worker: WorkerProcess, number: int, restart: Restart) -> None:
        self.worker = worker
        self.number = number
        self.opened = False
        self.over = False
        self.needed = 0
        self.sent = restart.first
        self.done = False
        self.state_bytes = 0
        self.batch_key: str | None = None
        self.precision: str | None = None
        self.steps_asked = 0
        self._plan = restart.plan
        self._first = restart.first
        self._rows_to_drop = restart.rows_to_drop

    @property
    def can_step(self) -> bool:
        return self.opened and not self.over and not self.done and self.needed <= self.sent

    @property
    def can_step_ahead(self) -> bool:
        """Whether a step can be asked for behind those that are not answered yet: it will find work and its
        rows. Only bands say so beforehand, see `RunPlan.rows_for_step`."""
        plan, number = self._plan, self.steps_asked + 1
        if plan.way != "bands" or not self.opened or self.over or number > plan.steps:
            return False
        return self._first + plan.rows_for_step(number) <= self.sent

    def take_status(self, status: Message) -> None:
        """What the worker said about the run."""
        # What it says of a step may be read after what it said of rows that came later.
        self.needed = max(self.needed, self._first + int(status["rows_fed"]) + int(status["rows_wanted"]))
        self.done = self.done or bool(status["done"])
        self.state_bytes = int(status["state_bytes"])
        self.batch_key = status["batch_key"]
        self.precision = str(status["precision"])

    def take_new(self, rows: NDArray[Any]) -> NDArray[Any] | None:
        """The rows of a step that a life before did not give already; None if it gave all of them."""
        known = min(self._rows_to_drop, rows.shape[0])
        self._rows_to_drop -= known
        if known and known == rows.shape[0]:
            return None
        return rows[known:]


class Strikes:
    """How often a run was at work when its worker ended, without any progress in between."""

    def __init__(self) -> None:
        self._count = 0
        self._delivered = -1

    @property
    def any(self) -> bool:
        return self._count > 0

    def judge(self, life: Life, delivered: int) -> None:
        """A worker has ended; the run had given so many rows by then. Raises `ProcessingFailed` when it was
        this run that ended it, and others before.
        """
        if delivered != self._delivered:
            self._count, self._delivered = 0, delivered
        worker = life.worker
        if life.number in worker.at_work:
            self._count += _KILLED_FROM_OUTSIDE if worker.killed_from_outside else _CRASH
        elif not life.opened:
            self._count += _KILLED_FROM_OUTSIDE
        if self._count >= _TOO_MUCH:
            raise ProcessingFailed(
                "the worker that computes this image ended again and again, so it is not tried any more"
            )


class Renewals:
    """How a run that cannot go on is begun again on a worker that lives, and how often."""

    def __init__(self) -> None:
        self._of_lost_state = 0

    def prepare(self, kept: Kept, error: OutOfMemory | MustBeginAnew) -> None:
        """Returns when a restart from what is kept can do what this one could not: in lower bands after
        `OutOfMemory`, which come to an end, and as before when only the state is lost. Raises the error where
        it cannot.
        """
        if not kept.enough:
            raise error
        if isinstance(error, OutOfMemory):
            if not kept.lower_bands():
                raise error
            return
        self._of_lost_state += 1
        if self._of_lost_state > _MOST_RENEWALS:
            raise error
