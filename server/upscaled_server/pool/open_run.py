"""A run as the worker keeps it, and what is asked of it, in order.

A step that is asked for behind one that is computed begins when that one leaves its first core, in the
threads that compute: neither the other cores are waited for nor the event loop, which has rows to send and
messages to read. So rows that come meanwhile are put down, and fed in those threads as well, before the next
step begins.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from upscaled_server.pool.inference import Inference, Step, shares_cores
from upscaled_server.pool.protocol import RunClosed
from upscaled_server.pool.transport import Message

COPY_ELSEWHERE_BYTES = 1 << 20
"""From here on rows are copied beside the event loop."""


@dataclass(eq=False, slots=True)
class _PutDown:
    """Rows that will be fed, and the status after that."""

    rows: NDArray[Any]
    done: Future[Message] = field(default_factory=Future)


@dataclass(eq=False, slots=True)
class OpenRun:
    """`lock` keeps the requests in order up to where a step is submitted. `closed` takes effect before the
    queue does.

    `run` belongs to the threads that compute as long as there is a step that has not ended, and to the holder
    of the lock otherwise.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    run: Any = None
    rows_fed: int = 0
    steps: int = 0
    closed: bool = False
    _submitted: list[Step] = field(default_factory=list)
    _put_down: deque[_PutDown] = field(default_factory=deque)
    _feeding: threading.Lock = field(default_factory=threading.Lock)
    _failed: bool = False

    def check_open(self) -> None:
        """Raises `RunClosed`."""
        if self.closed or self.run is None:
            raise RunClosed("the run is closed")

    async def feed(self, rows: NDArray[Any], errands: Executor) -> Message:
        """The status once the run has the rows. Raises what the run raises, and `RunClosed`."""
        async with self.lock:
            self.check_open()
            put_down = _PutDown(rows)
            self._put_down.append(put_down)
            if not self._is_computed:
                await self._pick_up(errands)
        try:
            return await asyncio.wrap_future(put_down.done)
        finally:
            # Its error refers to this frame: together they would keep the rows until the garbage collector
            # comes, which may be never in a worker that rests.
            del put_down

    async def step(self, inference: Inference, errands: Executor) -> tuple[NDArray[Any], Message, float]:
        """Rows, the status and the device seconds of the next step. Raises what the run raises, and
        `RunClosed`."""
        async with self.lock:
            self.check_open()
            pixels = self.pixels_of_step()
            step = inference.submit(
                lambda leaving: self._compute(pixels, leaving),
                shares=shares_cores(self.run.plan),
                behind=self._submitted[-1] if self._submitted else None,
            )
            self._submitted.append(step)
        try:
            (rows, status), seconds = await asyncio.wrap_future(step.done)
        except asyncio.CancelledError:
            if not step.done.cancelled():
                raise
            raise RunClosed("the run is closed") from None  # by `close`, before it began
        finally:
            self._submitted.remove(step)
            if self._put_down and not self._is_computed:
                # They came when the step had looked for them the last time.
                async with self.lock:
                    if not self._is_computed:
                        await self._pick_up(errands)
            del step  # see `feed`
        return rows, status, seconds

    async def wait_computed(self) -> None:
        """Returns when no step is left. For the holder of the lock: nobody else submits one."""
        while left := [asyncio.wrap_future(step.done) for step in self._submitted if not step.done.done()]:
            for ended in (await asyncio.wait(left))[0]:
                if not ended.cancelled():
                    ended.exception()  # for whoever asked for the step; else asyncio complains

    def close_soon(self) -> None:
        """Steps that have not begun never will."""
        self.closed = True
        for step in self._submitted:
            step.done.cancel()  # without effect once it has begun

    async def close(self) -> None:
        """Returns when the last step has ended and nothing is held any more."""
        self.close_soon()
        async with self.lock:
            await self.wait_computed()
            while self._put_down:
                self._put_down.popleft().done.set_exception(RunClosed("the run is closed"))
            if self.run is not None:
                self.run.close()

    def status(self) -> Message:
        """What the server keeps in step with."""
        return {
            "rows_wanted": self.run.rows_wanted,
            "rows_fed": self.rows_fed,
            "done": self.run.done,
            "state_bytes": self.run.state_bytes,
            "batch_key": self.run.batch_key,
            "precision": self.run.precision,
        }

    def pixels_of_step(self) -> float:
        """How many of the plan's input pixels the next step computes; counts it."""
        plan = self.run.plan
        pixels: float = plan.computed_pixels * plan.share_of_step(self.steps)
        self.steps += 1
        return pixels

    @property
    def _is_computed(self) -> bool:
        return any(not step.done.done() for step in self._submitted)

    def _compute(self, pixels: float, leaving: Callable[[], None]) -> tuple[NDArray[Any], Message]:
        """Runs where steps are computed."""
        self.check_open()
        self._feed_what_is_put_down()
        if self._failed:
            # Of memory that did not suffice, say, there is no more now.
            raise RunClosed("a step before this one has failed")
        try:
            rows: NDArray[Any] = self.run.step(leaving)
        except BaseException:  # whoever waits for the step gets it
            self._failed = True
            raise
        status = self._feed_what_is_put_down()
        return rows, {**status, "pixels": pixels}

    async def _pick_up(self, errands: Executor) -> None:
        if sum(each.rows.nbytes for each in self._put_down) < COPY_ELSEWHERE_BYTES:
            self._feed_what_is_put_down()
        else:
            await asyncio.get_running_loop().run_in_executor(errands, self._feed_what_is_put_down)

    def _feed_what_is_put_down(self) -> Message:
        """The status then: no other thread feeds while it is taken."""
        with self._feeding:
            while self._put_down:
                each = self._put_down.popleft()
                try:
                    self.run.feed(each.rows)
                    self.rows_fed += each.rows.shape[0]
                    each.done.set_result(self.status())
                except Exception as error:  # whoever brought the rows gets it
                    each.done.set_exception(error)
                del each  # see `feed`
            return self.status()
