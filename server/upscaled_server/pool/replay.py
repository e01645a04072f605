"""What is kept of a run's input, so that the rest of its output can be computed again.

A worker that dies takes the state of its runs with it, and bands without enough memory are begun again as
lower ones. The output rows that are still missing depend on the input rows around them alone: a run over what
is kept, as if the image began there, gives the same bytes, provided that it begins at the border of a piece
or band and far enough above.

    input   0 ..... first |--------- kept ---------| fed          first: a multiple of the height of a band
    output  0 ................. delivered |
                          |-- margin -----|                       what the false border at `first` changes
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from upscaled_server.tiling.bands import lower_bands
from upscaled_server.tiling.plan import RunPlan

MAX_KEPT_BYTES = 64 << 20
"""A run that would have to keep more keeps nothing, and ends with its worker."""

SMALL_BYTES = 1 << 20

_WINOGRAD_ROWS = 6


@dataclass(frozen=True, slots=True)
class Restart:
    """Run `plan` and drop its first `rows_to_drop` output rows. It begins with the image's row `first`."""

    plan: RunPlan
    first: int
    rows_to_drop: int


class Kept:
    """The input rows that the missing output needs. `plan` is the image's, with the bands of a restart."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self._rows: deque[NDArray[Any]] = deque()
        self._first = 0
        self._delivered = 0
        self._bytes = 0
        self._enough = True
        self.fed = 0

    @property
    def delivered(self) -> int:
        """Output rows that the caller has, or will get whatever happens to the worker."""
        return self._delivered

    @property
    def enough(self) -> bool:
        """Whether the run can be begun again."""
        return self._enough

    @property
    def nbytes(self) -> int:
        return self._bytes

    @property
    def rows(self) -> tuple[NDArray[Any], ...]:
        """In order, from `restart().first` on."""
        return tuple(self._rows)

    def append(self, rows: NDArray[Any]) -> None:
        """The next input rows, (n, width, 3): copied, unless they own their memory. Then they must not be
        changed any more."""
        self.fed += rows.shape[0]
        if not self._enough or not rows.shape[0]:
            return
        self._bytes += rows.nbytes
        if self._bytes > MAX_KEPT_BYTES:
            self.drop()
        else:
            self._rows.append(rows if rows.flags.owndata else rows.copy())

    def drop(self) -> None:
        """Keep nothing, from now on: the run is closed, or would have to keep too much."""
        self._enough = False
        self._bytes = 0
        self._rows.clear()

    def deliver(self, rows: int) -> None:
        """So many output rows more have come. Forgets the input rows that only they needed."""
        self._delivered += rows
        first = _first_needed(self.plan, self._delivered // self.plan.scale)
        while self._rows and self._first < first:
            head = self._rows[0]
            if self._first + head.shape[0] > first:
                # A copy, so that what is above is freed.
                self._rows[0] = head[first - self._first :].copy()
                self._bytes -= head.nbytes - self._rows[0].nbytes
                self._first = first
            else:
                self._rows.popleft()
                self._bytes -= head.nbytes
                self._first += head.shape[0]

    def restart(self) -> Restart:
        plan = replace(self.plan, height=self.plan.height - self._first)
        return Restart(plan, self._first, self._delivered - self._first * self.plan.scale)

    def lower_bands(self) -> bool:
        """Take lower bands with the next restart. False where there are none."""
        lower = lower_bands(self.plan)
        self.plan = lower or self.plan
        return lower is not None


def kept_bytes(plan: RunPlan, *, in_bytes: int = 1) -> int:
    """The most that `Kept` holds of a plan's image while it is fed no more than `ahead_rows` ahead."""
    rows = plan.height
    if plan.way != "whole":
        behind = _margin(plan) + plan.tile_height
        ahead = plan.halo + plan.tile_height * plan.parallel * (1 + plan.rounds_per_step) + ahead_rows(plan)
        rows = min(rows, behind + ahead)
    return min(rows * plan.width * 3 * in_bytes, MAX_KEPT_BYTES)


def is_small(plan: RunPlan) -> bool:
    """Whether the image is fed as a whole while its first step is computed, so that no later one waits for
    rows."""
    return plan.width * plan.height * 3 <= SMALL_BYTES


def ahead_rows(plan: RunPlan) -> int:
    """Input rows that may be there beyond those of the next step, so that the one after it can follow at
    once.
    """
    if plan.way == "whole":
        return 0
    if is_small(plan):
        return plan.height
    if plan.way == "bands":
        return math.ceil(plan.tile_height * plan.parallel * plan.rounds_per_step / plan.steps_per_band)
    return plan.tile_height * (plan.parallel if plan.strips else 1)


def _first_needed(plan: RunPlan, delivered: int) -> int:
    """The first input row of the run that computes the output from this input row on."""
    if plan.way == "whole":
        return 0
    return max(0, (delivered - _margin(plan)) // plan.tile_height * plan.tile_height)


def _margin(plan: RunPlan) -> int:
    """How far the false upper border is felt, down to the last bit.

    Its zeros change `halo` rows, one for each convolution. A Winograd convolution computes up to 6 rows
    together, from 8, and the rounding of each depends on all of them: so each convolution carries a change of
    the last bit up to 6 rows on. And the first bands have fewer rows than later ones in the layers behind.
    """
    if plan.way == "bands":
        return (_WINOGRAD_ROWS + 1) * plan.halo + 2 * plan.tile_height
    return plan.halo + plan.tile_height
