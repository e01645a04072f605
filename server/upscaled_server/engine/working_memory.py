"""Keeping what steps on a CPU leave in memory for the next ones within the budget.

Steps are given memory that was used before, since fresh pages cost as much as filling them. But what a step
of one image leaves suits images of about its size only, so that of many sizes would add up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from upscaled_server.engine.variant import Variant
from upscaled_server.tiling.plan import RunPlan

KEPT_SHARE = 1 / 8
"""Of the budget: what may be kept while no image is open, or of other sizes than the one at hand."""


class WorkingMemory:
    """Told of each run and step; calls `release` when what was used since the last time may be too much.

    Working memory is counted as planned, once for each model and way to cut an image. When a step begins it
    is released where it is more than the budget leaves beside the open runs' state, or more than both twice
    the largest part of it and `KEPT_SHARE`; and when the last run is closed, if it is more than that share.
    """

    def __init__(self, budget_bytes: int, release: Callable[[], None]) -> None:
        self._budget_bytes = budget_bytes
        self._kept_bytes = int(budget_bytes * KEPT_SHARE)
        self._release = release
        self._lock = threading.Lock()
        self._open_runs = 0
        self._state_bytes = 0
        self._used: dict[object, int] = {}

    def run_opens(self, plan: RunPlan) -> None:
        with self._lock:
            self._open_runs += 1
            self._state_bytes += plan.state_bytes()

    def run_closes(self, plan: RunPlan) -> None:
        with self._lock:
            self._open_runs -= 1
            self._state_bytes -= plan.state_bytes()
            if self._open_runs or sum(self._used.values()) <= self._kept_bytes:
                return
            self._used.clear()
        self._release()

    def step_begins(self, variant: Variant, plan: RunPlan) -> None:
        needed = plan.working_bytes
        kind = (variant, plan.way, plan.tile_width, plan.tile_height, plan.parallel)
        with self._lock:
            self._used[kind] = needed
            room = self._budget_bytes - self._state_bytes
            enough = max(2 * max(self._used.values()), self._kept_bytes)
            if sum(self._used.values()) <= max(needed, min(room, enough)):
                return
            self._used = {kind: needed}
        self._release()
