"""The threads that compute steps in a worker: in order, and one at a time but for their ends.

A step in bands leaves its cores one after the other, since nothing is left to begin while the last band is
still being computed: on two cores an eighth of the time of one is lost so. The next step may have it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from upscaled_server.engine.threads import started_threads
from upscaled_server.tiling.plan import RunPlan

AT_ONCE = 2


def shares_cores(plan: RunPlan) -> bool:
    """Whether the plan's steps hand their work to the engine's threads, one for each core, piece by piece:
    two such steps together then use no more cores, and no more working memory, than one.
    """
    return plan.way == "bands" and plan.parallel > 1 and plan.threads == 1


@dataclass(eq=False, slots=True)
class Step:
    """`done` gives what `compute` returned, and the step's device seconds: of those that pass with two at
    work, half. It can be cancelled as long as the step has not begun.
    """

    compute: Callable[[Callable[[], None]], Any]
    shares: bool
    done: Future[tuple[Any, float]] = field(default_factory=Future)
    seconds: float = 0.0
    behind_it: Step | None = None
    leaves: bool = False


class Inference:
    """Steps begin in the order in which they are submitted. One that shares the cores may begin beside one
    other that does; all others are alone.
    """

    def __init__(self) -> None:
        self._threads = started_threads(AT_ONCE, "inference")
        self._lock = threading.Lock()
        self._waiting: deque[Step] = deque()
        self._begun: deque[Step] = deque()
        self._running: list[Step] = []
        self._counted_until = 0.0

    def submit(
        self,
        compute: Callable[[Callable[[], None]], Any],
        *,
        shares: bool = False,
        behind: Step | None = None,
    ) -> Step:
        """`compute` is given what it may call, in any thread, when it leaves the first of the cores.

        `behind`: a step that must have ended before, or left a core. Until it has, this one has no place in
        the order, so that whoever comes meanwhile goes first; then it begins without anybody having to be
        told. One step may be behind each.
        """
        step = Step(compute, shares)
        with self._lock:
            if behind is None or behind.leaves:
                self._waiting.append(step)
                self._begin_those_that_may()
            else:
                behind.behind_it = step
        return step

    def _begin_those_that_may(self) -> None:
        while self._waiting and self._may_begin(self._waiting[0]):
            step = self._waiting.popleft()
            if step.done.set_running_or_notify_cancel():
                self._count()
                self._running.append(step)
                self._begun.append(step)
                self._threads.submit(self._compute_begun)
            else:
                self._call_next(step)

    def _may_begin(self, step: Step) -> bool:
        sharing = step.shares and all(each.shares for each in self._running)
        return not self._running or (sharing and len(self._running) < AT_ONCE)

    def _compute_begun(self) -> None:
        # Not an argument: an error refers to the frames that it came through and to their callers, so that it
        # and its step would be a cycle, and stay until the garbage collector comes.
        step = self._begun.popleft()
        try:
            result = step.compute(partial(self._leave, step))
        except BaseException as error:  # whoever waits for the step gets it
            self._end(step)
            traceback.clear_frames(error.__traceback__)  # they hold bands, and the step
            step.done.set_exception(error)
        else:
            self._end(step)
            step.done.set_result((result, step.seconds))
        del step

    def _end(self, step: Step) -> None:
        with self._lock:
            self._count()
            self._running.remove(step)
            self._call_next(step)
            self._begin_those_that_may()

    def _leave(self, step: Step) -> None:
        with self._lock:
            self._call_next(step)
            self._begin_those_that_may()

    def _call_next(self, step: Step) -> None:
        if not step.leaves and step.behind_it is not None:
            self._waiting.append(step.behind_it)
        step.leaves = True

    def _count(self) -> None:
        now = time.perf_counter()
        for each in self._running:
            each.seconds += (now - self._counted_until) / len(self._running)
        self._counted_until = now
