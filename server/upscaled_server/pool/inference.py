"""The threads that compute steps in a worker: in order, and one at a time but for their ends.

A step in bands leaves its cores one after the other, since nothing is left to begin while the last band is
still being computed: on two cores an eighth of the time of one is lost so. The next step may have it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from upscaled_server.tiling.plan import RunPlan

AT_ONCE = 2


def shares_cores(plan: RunPlan) -> bool:
    """Whether the plan's steps hand their work to the engine's threads, one for each core, piece by piece:
    two such steps together then use no more cores, and no more working memory, than one.
    """
    return plan.way == "bands" and plan.parallel > 1 and plan.threads == 1


@dataclass(eq=False, slots=True)
class _Step:
    """`seconds` of the device that it has had: of those that pass with two at work, half."""

    compute: Callable[[], Any]
    shares: bool
    done: Future[tuple[Any, float]]
    seconds: float = 0.0


class Inference:
    """Steps begin in the order in which they are submitted. One that shares the cores may begin beside one
    other that does; all others are alone.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "inference")
        self._lock = threading.Lock()
        self._waiting: deque[_Step] = deque()
        self._running: list[_Step] = []
        self._counted_until = 0.0

    def submit(self, compute: Callable[[], Any], *, shares: bool = False) -> Future[tuple[Any, float]]:
        """What `compute` returns, and its device seconds. Can be cancelled as long as it has not begun."""
        step = _Step(compute, shares, Future())
        with self._lock:
            self._waiting.append(step)
            self._begin_those_that_may()
        return step.done

    def _begin_those_that_may(self) -> None:
        while self._waiting and self._may_begin(self._waiting[0]):
            step = self._waiting.popleft()
            if step.done.set_running_or_notify_cancel():
                self._count()
                self._running.append(step)
                self._threads.submit(self._compute, step)

    def _may_begin(self, step: _Step) -> bool:
        sharing = step.shares and all(each.shares for each in self._running)
        return not self._running or (sharing and len(self._running) < AT_ONCE)

    def _compute(self, step: _Step) -> None:
        try:
            result = step.compute()
        except BaseException as error:  # whoever waits for the step gets it
            self._end(step)
            step.done.set_exception(error)
        else:
            self._end(step)
            step.done.set_result((result, step.seconds))

    def _end(self, step: _Step) -> None:
        with self._lock:
            self._count()
            self._running.remove(step)
            self._begin_those_that_may()

    def _count(self) -> None:
        now = time.perf_counter()
        for each in self._running:
            each.seconds += (now - self._counted_until) / len(self._running)
        self._counted_until = now
