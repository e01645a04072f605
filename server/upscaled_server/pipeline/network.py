"""Rows through the network: one pass of one image, with the next input rows on their way while it works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from upscaled_server.errors import ProcessingFailed
from upscaled_server.pipeline.abreast import Abreast, Strips
from upscaled_server.pipeline.events import Stage
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pool.run import PoolRun

Reader = Callable[[int], Awaitable[Strips | None]]
"""Gives the next rows, about as many as asked for; None at the end."""


async def through_network(
    read: Reader, runs: Sequence[PoolRun], clock: StageClock
) -> AsyncGenerator[Strips, None]:
    """Feed the runs of one pass what they want and give the rows they finish.

    Runs of one pass have one plan, so they want and finish the same rows; but one that lost its worker may
    do so in other portions than one that did not.
    """
    abreast = Abreast(len(runs))
    feeder = _Feeder(read, runs)
    for run in runs:
        run.span = clock.span(Stage.INFER)
    try:
        while not all(run.done for run in runs):
            await feeder.satisfy()
            feeder.go_ahead()
            with clock.during(Stage.INFER):
                for number, run in enumerate(runs):
                    if not run.done:
                        abreast.push(number, await run.step())
            finished = abreast.pop()
            if finished is not None:
                feeder.given += finished[0].shape[0] // runs[0].plan.scale
                yield finished
    finally:
        await feeder.aclose()


def reader(strips: AsyncIterator[Strips]) -> Reader:
    """The rows of one pass as the input of the next, whatever number is asked for."""

    async def read(_: int) -> Strips | None:
        return await anext(strips, None)

    return read


class _Feeder:
    """Feeds runs what they want, and while they work what they will want next, so that a step finds its rows
    there when the one before it ends.

    How far it may go ahead it learns from the runs: by the most that they asked for at once, beyond the
    most that they needed for rows that they had not given out yet. What a run holds stays bounded by that; of
    a small image it may hold all.
    """

    def __init__(self, read: Reader, runs: Sequence[PoolRun]) -> None:
        self._read = read
        self._runs = runs
        self._ended = False
        self._fed = 0
        self._portion = 0
        self._needed = 0
        self._ahead: asyncio.Task[None] | None = None
        self.given = 0
        """Finished rows of the output, in rows of the input."""

    async def satisfy(self) -> None:
        """Return when the runs have the rows for their next step. Raises `ProcessingFailed` if the input ends
        before, and what reading and feeding raise."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead
        while wanted := max(run.rows_wanted for run in self._runs):
            if self._ended:
                raise ProcessingFailed(f"the input ended {wanted} rows too early")
            self._portion = max(self._portion, wanted)
            self._needed = max(self._needed, self._fed + wanted - self.given)
            await self._feed(wanted)

    def go_ahead(self) -> None:
        """Begin to feed what the step after the next one will want; `satisfy` waits for its end."""
        welcome = min(run.rows_welcome for run in self._runs)
        count = max(welcome, self.given + self._needed + self._portion - self._fed)
        if count > 0 and not self._ended:
            self._ahead = asyncio.create_task(self._feed(count))

    async def aclose(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _feed(self, count: int) -> None:
        strips = await self._read(count)
        if strips is None:
            self._ended = True
            return
        self._fed += strips[0].shape[0]
        for run, rows in zip(self._runs, strips, strict=True):
            await run.feed(rows)
