"""One image through one network, step by step: rows in, finished rows out.

Whoever drives a run feeds rows until `rows_wanted` is 0, then steps; a step is one unit of device time, after
which other work may have its turn. The way (whole, tiles or bands) is the plan's matter and does not show
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.backends.base import Batching, Empty, Job, LoadedNetwork, OwnMemory
from upscaled_server.engine.rows import RowWindow
from upscaled_server.errors import OutOfMemory, ProcessingFailed
from upscaled_server.tiling.cut import Piece, rows_of_pieces
from upscaled_server.tiling.plan import RunPlan

Bits = Literal[8, 16]
Planes = Literal[1, 3]


class Run(Protocol):
    """One image on its way through a network. One caller at a time, but for what `step` says."""

    plan: RunPlan

    @property
    def rows_wanted(self) -> int:
        """Input rows still needed before the next `step` can do something; 0: step now. 0 as well when
        done."""
        ...

    @property
    def done(self) -> bool:
        """Whether every output row has been given."""
        ...

    @property
    def state_bytes(self) -> int:
        """Bytes that the run holds now: input rows waiting and output rows in the making."""
        ...

    @property
    def precision(self) -> str:
        """What its last step was computed in. A card may go to a finer one in the middle of an image."""
        ...

    @property
    def batch_key(self) -> str | None:
        """What the next step may be taken together with (`Engine.step_together`): that of other runs with an
        equal key, which means the same network, and pieces of equal shape and types. It changes from step to
        step.

        None: with nothing, because the device gains nothing by it, or rows are still wanted, or it is done.
        """
        ...

    def feed(self, rows: NDArray[Any]) -> None:
        """Give the next input rows in order: (n, width, 3) RGB, uint8 or uint16 (the same all along). They
        are copied.

        More than `rows_wanted` is accepted and held; feeding as much as is wanted keeps the state at its
        bound. Raises `ProcessingFailed` for another shape or type, or more rows than the image has.
        """
        ...

    def step(self, leaving: Callable[[], None] | None = None) -> NDArray[Any]:
        """Do one unit of work and return the output rows it finished: (n, width * scale, planes), uint8 or
        uint16, RGB or luma as asked when the run was opened; n may be 0. The rows are the caller's.

        `leaving` is called, in another thread, when a core has nothing left to do for this step while others
        still have: from then on another thread may feed rows, look at what the run wants and call the next
        step. Only a run whose work is shared out among cores calls it.

        Raises `ProcessingFailed` when rows are missing, or the run is done or closed; `OutOfMemory`;
        `MustBeginAnew` when this run cannot go on, and another one of the image can be done.
        """
        ...

    def close(self) -> None:
        """Free everything. Calling it twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class _Group:
    """The pieces of one step: they finish input rows [start, end) of the columns they cover."""

    pieces: tuple[Piece, ...]
    completes_rows: bool

    @property
    def start(self) -> int:
        return self.pieces[0].down.start

    @property
    def end(self) -> int:
        return self.pieces[-1].down.end

    @property
    def first(self) -> int:
        return self.pieces[0].down.first

    @property
    def last(self) -> int:
        return self.pieces[-1].down.last


class PiecesRun:
    """A run in pieces with context: `whole` (one piece), strips or tiles. See `Run`.

    It holds the input rows that pieces still need and, when pieces are narrower than the image, one row of
    pieces of output.
    """

    def __init__(
        self,
        network: LoadedNetwork,
        plan: RunPlan,
        out_bits: Bits,
        executor: Executor,
        on_close: Callable[[], None] = lambda: None,
        *,
        planes: Planes = 3,
        on_step: Callable[[], None] = lambda: None,
        empty: Empty = np.empty,
    ) -> None:
        """`on_step` is called when a step begins. `empty` makes the arrays that `step` returns, unless the
        network has memory of its own for them."""
        if plan.way == "bands":
            raise ProcessingFailed("this network has no run in bands")
        if plan.scale != network.scale:
            raise ProcessingFailed(
                f"the plan is for scale {plan.scale}, the network enlarges by {network.scale}"
            )
        self.plan = plan
        self._network = network
        self._executor = executor
        self._on_close = on_close
        self._on_step = on_step
        self._empty = empty
        self._dtype = np.dtype(np.uint8 if out_bits == 8 else np.uint16)
        self._planes = planes
        self._groups = _groups(plan)
        self._next: _Group | None = next(self._groups)
        self._window = RowWindow(plan.width, plan.height, capacity=_window_rows(plan))
        self._finished: NDArray[Any] | None = None
        self._closed = False

    @property
    def rows_wanted(self) -> int:
        if self._next is None:
            return 0
        return max(0, self._next.last - self._window.end)

    @property
    def done(self) -> bool:
        return self._next is None

    @property
    def state_bytes(self) -> int:
        return self._window.nbytes + (0 if self._finished is None else self._finished.nbytes)

    @property
    def precision(self) -> str:
        return self._network.precision

    @property
    def batch_key(self) -> str | None:
        group = self._next
        if group is None or len(group.pieces) > 1 or self._closed or self.rows_wanted:
            return None
        if not isinstance(self._network, Batching):
            return None
        return self._network.batch_key(group.pieces[0], self._window.dtype, self._dtype, self._planes)

    @property
    def network(self) -> LoadedNetwork:
        return self._network

    def feed(self, rows: NDArray[Any]) -> None:
        if self._closed:
            raise ProcessingFailed("the run is closed")
        self._window.append(rows)

    def step(self, leaving: Callable[[], None] | None = None) -> NDArray[Any]:  # noqa: ARG002 - see `Run`
        self._on_step()
        group, out = self._begin()
        self._compute(group, out)
        return self._end(group, out)

    def job(self) -> Job:
        """The next step as one job, for a network that takes several together. `finish` must follow, once
        they are done; until then nothing has changed."""
        group, out = self._begin()
        if len(group.pieces) > 1:
            raise ProcessingFailed("this step has several pieces")
        return self._job(group.pieces[0], group.start, out)

    def finish(self) -> NDArray[Any]:
        """What `step` returns, after `job` was done."""
        return self._end(*self._begin())

    def _begin(self) -> tuple[_Group, NDArray[Any]]:
        """The next group and the rows that it writes to."""
        group = self._next
        if group is None or self._closed:
            raise ProcessingFailed("the run is " + ("closed" if self._closed else "done"))
        if self.rows_wanted:
            raise ProcessingFailed(f"{self.rows_wanted} more rows must be fed first")
        if self._finished is None:
            scale, network = self.plan.scale, self._network
            shape = ((group.end - group.start) * scale, self.plan.width * scale, self._planes)
            empty = network.empty if isinstance(network, OwnMemory) else self._empty
            self._finished = empty(shape, self._dtype)
        return group, self._finished

    def _end(self, group: _Group, out: NDArray[Any]) -> NDArray[Any]:
        self._next = next(self._groups, None)
        if not group.completes_rows:
            return out[:0]
        rows, self._finished = out, None
        if self._next is None:
            self._window.clear()
        else:
            self._window.drop_before(self._next.first)
        return rows

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._finished = None
        self._window.clear()
        self._on_close()

    def _compute(self, group: _Group, out: NDArray[Any]) -> None:
        if len(group.pieces) == 1:
            self._infer(group.pieces[0], group.start, out)
            return
        futures = [self._executor.submit(self._infer, piece, group.start, out) for piece in group.pieces]
        # All of them, also when one failed: the others write into `out` and read the window.
        wait(futures)
        for future in futures:
            future.result()

    def _job(self, piece: Piece, top: int, out: NDArray[Any]) -> Job:
        scale = self.plan.scale
        across, down = piece.across, piece.down
        source = self._window.view(down.first, down.last)[:, across.first : across.last]
        rows, columns = (
            slice((down.start - top) * scale, (down.end - top) * scale),
            slice(across.start * scale, across.end * scale),
        )
        return source, piece, out[rows, columns]

    def _infer(self, piece: Piece, top: int, out: NDArray[Any]) -> None:
        source, piece, target = self._job(piece, top, out)
        try:
            self._network.infer(source, piece, target, threads=self.plan.threads)
        except OutOfMemory:
            plan = self.plan
            if not plan.divisible:
                raise
            halves = piece.halves(plan.halo, plan.multiple, plan.width, plan.height, plan.min_size)
            if halves is None:
                raise
            for half in halves:
                self._infer(half, top, out)


def _groups(plan: RunPlan) -> Iterator[_Group]:
    rows = rows_of_pieces(plan.spans_across, plan.spans_down)
    if plan.strips:
        strips = [row[0] for row in rows]
        for index in range(0, len(strips), plan.parallel):
            yield _Group(tuple(strips[index : index + plan.parallel]), completes_rows=True)
        return
    for row in rows:
        for index in range(0, len(row), plan.parallel):
            yield _Group(
                tuple(row[index : index + plan.parallel]), completes_rows=index + plan.parallel >= len(row)
            )


def _window_rows(plan: RunPlan) -> int:
    """The most rows that the pieces of one step read."""
    down = plan.spans_down
    together = plan.parallel if plan.strips else 1
    return max(
        down[min(i + together, len(down)) - 1].last - down[i].first for i in range(0, len(down), together)
    )
