"""What a worker was asked and has not answered yet."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from upscaled_server.pool.inference import AT_ONCE
from upscaled_server.pool.transport import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worker answered; `rows`, read-only, is a view of the worker's memory."""

    result: Message
    rows: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class _Step:
    run: int
    limit_seconds: float
    shares: bool


class Calls:
    """Requests by their numbers, and which of them are steps: those must come to an end.

    A request stays here when its caller gives up, so that the rows of its answer are taken and let go.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        # In the order in which they were asked for, which is that in which they are computed, but that of one
        # run only the first is in line: those behind it follow when it is done.
        self._steps: dict[int, _Step] = {}
        self._progress_at = 0.0
        self.steps_answered = 0
        self.at_work: tuple[int, ...] = ()
        """The runs whose steps were, or may have been, computed when everything failed."""

    def new_number(self) -> int:
        return next(self._numbers)

    def add(self, number: int) -> asyncio.Future[Answer]:
        """The request is about to be sent."""
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        return answer

    def drop(self, number: int) -> None:
        """It was not sent."""
        del self._answers[number]

    def sent_step(self, number: int, run: int, limit_seconds: float, *, shares: bool) -> None:
        """It was sent, and is a step of this run; `shares`: it may be computed beside another that does, see
        `inference.py`.
        """
        if not self._steps:
            self._progress_at = time.monotonic()
        self._steps[number] = _Step(run, limit_seconds, shares)

    def take(self, number: int) -> asyncio.Future[Answer] | None:
        """It is answered. None if nobody waits for that."""
        step = self._steps.pop(number, None)
        if step is not None:
            self.steps_answered += 1
            self._progress_at = time.monotonic()
            self._put_in_line(step.run)
        answer = self._answers.pop(number, None)
        return None if answer is None or answer.done() else answer

    def fail(self, error: Callable[[], Exception]) -> int:
        """No answer will come to any of them. Gives their number."""
        answers, self._answers = self._answers, {}
        in_line: dict[int, _Step] = {}
        for step in self._steps.values():
            in_line.setdefault(step.run, step)
        first = list(in_line.values())[:AT_ONCE]
        together = first if all(step.shares for step in first) else first[:1]
        self.at_work = tuple(step.run for step in together)
        self._steps.clear()
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(error())
        return len(answers)

    def _put_in_line(self, run: int) -> None:
        """The run's step that was behind the one that is done, if there is one, is in line from now on."""
        number = next((number for number, step in self._steps.items() if step.run == run), None)
        if number is not None:
            self._steps[number] = self._steps.pop(number)

    @property
    def stuck_seconds(self) -> float:
        """For how long no step has ended, where that is longer than any of them may take; else 0."""
        if not self._steps:
            return 0.0
        idle = time.monotonic() - self._progress_at
        return idle if idle > max(step.limit_seconds for step in self._steps.values()) else 0.0
