"""A run on one worker after another, with the rows that the next one needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from upscaled_server.errors import DomainError, MustBeginAnew, OutOfMemory, ProcessingFailed, WorkerLost
from upscaled_server.pool.calls import Answer
from upscaled_server.pool.life import Life, Renewals, Strikes, Terms
from upscaled_server.pool.replay import Kept
from upscaled_server.pool.turns import Turns
from upscaled_server.tiling.plan import RunPlan

log = logging.getLogger("upscaled_server.pool")


class Lives:
    """`now`: the life that goes on, None before `begin`. `check_open` raises once the run is closed.

    Everything here raises `Unavailable` when no worker comes up, `WorkerLost` when too much would have to be
    kept, and `ProcessingFailed` when it is this run's own work that ends workers.
    """

    def __init__(self, plan: RunPlan, terms: Terms, turns: Turns, check_open: Callable[[], None]) -> None:
        self.kept = Kept(plan)
        self.now: Life | None = None
        self._terms = terms
        self._turns = turns
        self._check_open = check_open
        self._strikes = Strikes()
        self._renewals = Renewals()
        # Held while rows are sent, so that a new life begins with all of them.
        self._order = asyncio.Lock()

    @property
    def suspect(self) -> bool:
        """Whether the run was there when a worker died."""
        return self._strikes.any

    async def begin(self) -> None:
        await self.move_on_from(None)

    async def give(self, rows: NDArray[Any]) -> tuple[Life, asyncio.Future[Answer]] | None:
        """Keep the next input rows and send them; the life that is to take them, and its answer. None if it
        was lost over that: the next one has them. Raises `ProcessingFailed` for more than the image has."""
        async with self._order:
            life, fed, height = self.now, self.kept.fed + rows.shape[0], self.kept.plan.height
            if fed > height or life is None:
                raise ProcessingFailed(f"{fed} rows for an image of {height}")
            self.kept.append(rows)
            try:
                return life, await self._send(life, rows)
            except WorkerLost as error:
                lost = error
        await self.move_on_from(life, lost)
        return None

    async def renew(self, life: Life, error: OutOfMemory | MustBeginAnew) -> None:
        """Begin anew, with what can be done about the error. Raises it where nothing can."""
        self._renewals.prepare(self.kept, error)
        log.info("run %d is begun again: %s", life.number, error.message)
        life.over = True
        self._turns.withdraw()
        lost = None
        try:
            await life.worker.call("close", run=life.number)
        except WorkerLost as also:
            lost = also
        # What was asked for ahead has then been answered, and its turn given back.
        await self._turns.wait_closed()
        await self.move_on_from(life, lost, error)

    async def move_on_from(
        self, last_life: Life | None, lost: WorkerLost | None = None, why: DomainError | None = None
    ) -> None:
        """Open the run, on the next worker where one was lost, and give it the rows that it needs. Does
        nothing where that has been done already. Where these are not kept, raises what it was that ended the
        life before: the worker being lost, or else `why`."""
        async with self._order:
            while self.now is last_life:
                self._check_open()
                self._turns.withdraw()
                if (ended_by := lost or why) is not None and not self.kept.enough:
                    raise ended_by
                worker = await self._terms.find_worker(lost)
                self._check_open()
                if last_life is not None and lost is not None:
                    self._strikes.judge(last_life, self.kept.delivered)
                    log.info("run %d is computed again on the next worker", last_life.number)
                restart = self.kept.restart()
                self._turns.begin(restart.plan)
                life = self.now = Life(worker, self._terms.new_number(), restart)
                try:
                    answer = await worker.call("open", **self._terms.opening(restart.plan), run=life.number)
                    life.take_status(answer.result)
                    for rows in self.kept.rows:
                        answer = await (await self._send(life, rows))
                        life.take_status(answer.result)
                except WorkerLost as error:
                    last_life, lost = life, error
                else:
                    # Not before: a step ends early where rows are missing that the caller has brought.
                    life.opened = True

    async def _send(self, life: Life, rows: NDArray[Any]) -> asyncio.Future[Answer]:
        """Returns when the rows are on their way, in order with all else that is asked."""
        answer = await life.worker.ask("feed", pixels=rows, run=life.number)
        life.sent += rows.shape[0]
        return answer
