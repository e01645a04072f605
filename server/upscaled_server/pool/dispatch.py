"""The scheduler on the event loop: whoever has a unit of work waits here for its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from upscaled_server.pool.batches import BatchSpans
from upscaled_server.pool.scheduler.policy import Policy, Scheduler, Unit

Turn: TypeAlias = tuple[Unit, "asyncio.Future[None]"]


class Dispatcher:
    """Waiting never refuses (a run has one unit waiting at most, and admission bounds the runs). A wait that
    is cancelled leaves no trace. Every granted turn must be ended with `done`, and so must one that `follow`
    gave.
    """

    def __init__(
        self, devices: tuple[str, ...], policy: Policy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scheduler = Scheduler(devices, policy)
        self._clock = clock
        self._batches = BatchSpans()
        self._turns: dict[Unit, asyncio.Future[None]] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    @property
    def waiting(self) -> int:
        """Units that wait for their turn."""
        return len(self._turns)

    def waiting_of(self, *, batch: bool) -> tuple[int, float]:
        """Units of one class that wait, and for how long the first of them has."""
        now = self._clock()
        waits = [now - unit.queued_at for unit in self._turns if unit.batch == batch]
        return len(waits), max(waits, default=0.0)

    def waiting_on(self, device: str) -> int:
        return self._scheduler.waiting(device)

    def submit(self, unit: Unit) -> Turn:
        """The unit waits from now on; `wait` for its turn, or `withdraw` it."""
        turn = self._turns[unit] = asyncio.get_running_loop().create_future()
        self._scheduler.submit(unit, self._clock())
        self._advance(unit.device)
        return unit, turn

    def follow(self, unit: Unit) -> bool:
        """A turn at once, behind the one that the unit's run has; see `Scheduler.follow`."""
        follows = self._scheduler.follow(unit, self._clock())
        if follows and unit.grant is not None:
            self._batches.granted(unit.grant)
        return follows

    async def wait(self, turn: Turn) -> None:
        """Returns when the turn is granted. Cancelled, it withdraws the unit."""
        try:
            await turn[1]
        except asyncio.CancelledError:
            self.withdraw(turn)
            raise

    def withdraw(self, turn: Turn) -> None:
        """Whether it was granted meanwhile or not, the unit will not be computed."""
        unit = turn[0]
        self._turns.pop(unit, None)
        if not self._scheduler.cancel(unit):
            self.done(unit, None)  # granted in the same moment: to the next one

    def done(self, unit: Unit, seconds: float | None) -> None:
        """A turn has ended, well or not, after so many seconds of the device, where that is known."""
        self._batches.finished(unit, seconds)
        self._scheduler.finished(unit, seconds)
        self._advance(unit.device)

    def close(self) -> None:
        """Let go of the clock; whoever still waits must be cancelled."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()

    def _advance(self, device: str) -> None:
        now = self._clock()
        while (grant := self._scheduler.grant(device, now)) is not None:
            self._batches.granted(grant)
            for unit in grant.units:
                turn = self._turns.pop(unit, None)
                if turn is not None and not turn.done():
                    turn.set_result(None)
        self._wake(device, now)

    def _wake(self, device: str, now: float) -> None:
        alarm = self._alarms.pop(device, None)
        if alarm is not None:
            alarm.cancel()
        at = self._scheduler.wake_at(device)
        if at is not None:
            loop = asyncio.get_running_loop()
            self._alarms[device] = loop.call_later(max(0.0, at - now), self._advance, device)
