"""A run of the engine from its first row to its last, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from upscaled_server.engine.run import Run
from upscaled_server.pool.inference import shares_cores

_STEP_SECONDS = 600.0
# A step that leaves its last core while the next one leaves its first, and the one after that.
_CALLERS = 3


def rows_of(run: Run, image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The result's rows, (n, width, planes), as steps give them; n may be 0.

    As in a worker process: where steps share the cores each begins as soon as the one before leaves one, else
    when that has ended.
    """
    return _overlapping(run, image) if shares_cores(run.plan) else one_by_one(run, image)


def one_by_one(run: Run, image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The same, where each step begins when the one before has ended."""
    fed = 0
    while not run.done:
        while wanted := run.rows_wanted:
            run.feed(image[fed : fed + wanted])
            fed += wanted
        yield run.step()


def _overlapping(run: Run, image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    plan, fed = run.plan, 0
    steps: SimpleQueue[Future[NDArray[Any]]] = SimpleQueue()

    def begin(number: int) -> None:
        nonlocal fed
        if number > plan.steps:
            return
        wanted = plan.rows_for_step(number)
        if wanted > fed:
            run.feed(image[fed:wanted])
            fed = wanted
        steps.put(callers.submit(run.step, lambda: begin(number + 1)))

    with ThreadPoolExecutor(_CALLERS) as callers:
        begin(1)
        for _ in range(plan.steps):
            yield steps.get(timeout=_STEP_SECONDS).result(_STEP_SECONDS)
