"""One server: the real admission and scheduler, and a device that takes the time it is told."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.autoscaling.traffic import Request
from upscaled_server.errors import Overloaded
from upscaled_server.pool.admission import Admission
from upscaled_server.pool.claim import Claim, Needs
from upscaled_server.pool.places import Place, Ticket
from upscaled_server.pool.scheduler.policy import Grant, Policy, Scheduler, Unit
from upscaled_server.pool.settings import PoolSettings

_DEVICE = "device"
# About a band of a large image. What one run takes of memory is far from what a device has.
_STEP_SECONDS = 0.2
_BUDGET_BYTES, _STATE_BYTES, _WORKING_BYTES = 8 << 30, 32 << 20, 256 << 20
# By how much a step may take more or less than was estimated.
_NOISE = 0.1

After = Callable[[float, Callable[[], None]], None]
"""Calls something after so many seconds of the simulation."""


@dataclass(slots=True, eq=False)
class Image:
    """A request on its way. `began_at`: when its first step began, not a number before."""

    request: Request
    ticket: Ticket
    steps: int
    step_seconds: float
    began_at: float = math.nan
    first_number: int = 0


class Replica:
    """`began` is called when the first step of an image begins. Needs a running event loop, which is never
    waited in.
    """

    def __init__(
        self,
        number: int,
        settings: PoolSettings,
        max_calls: int,
        seed: int,
        clock: Callable[[], float],
        after: After,
        began: Callable[[Image], None],
    ) -> None:
        self.number = number
        self.ready = False
        self.draining = False
        self.busy_seconds = 0.0
        self._max_calls = max_calls
        self._clock, self._after, self._began = clock, after, began
        self._chance = random.Random(f"{seed} {number}")
        place = Place(_DEVICE, _BUDGET_BYTES, settings.max_open_runs, up=True)
        self._admission = Admission(
            [place],
            settings.max_waiting_runs,
            settings.max_pending_seconds,
            settings.aging_seconds,
            clock=clock,
        )
        self._scheduler = Scheduler(
            (_DEVICE,), Policy(ahead=settings.steps_ahead, aging_seconds=settings.aging_seconds)
        )
        self._waiting: dict[Ticket, Image] = {}
        self._stepping: dict[Unit, Image] = {}
        # What the device was given, in order: it computes one grant after the other.
        self._grants: list[Grant] = []

    @property
    def unfinished(self) -> int:
        """Images that were taken and are not done."""
        return self._admission.open + self._admission.waiting

    @property
    def queue_device_seconds(self) -> float:
        """What the metric `upscaled_queue_device_seconds` says, of both classes together."""
        return self._admission.seconds_pending

    def take(self, request: Request) -> float:
        """0 if the request is taken; if the server refuses it, the seconds after which to come back."""
        if self.unfinished >= self._max_calls:
            return max(1.0, self._admission.seconds_pending / self._max_calls)
        steps = math.ceil(request.seconds / _STEP_SECONDS)
        needs = Needs(
            state_bytes=_STATE_BYTES,
            working_bytes=_WORKING_BYTES,
            seconds=request.seconds,
            step_seconds=request.seconds / steps,
            measured=True,
        )
        claim = Claim(caller=request.caller, priority="batch" if request.batch else "interactive")
        ticket = Ticket.of(needs, claim)
        ticket.calls = 1  # its caller takes rows as they come
        image = Image(request, ticket, steps, needs.step_seconds)
        try:
            self._admission.enter(ticket)
        except Overloaded as error:
            return error.retry_after_seconds
        self._waiting[ticket] = image
        self._open()
        self._give()
        return 0.0

    def _open(self) -> None:
        """Begin what has been granted a place."""
        for ticket, image in list(self._waiting.items()):
            if ticket.place is not None:
                del self._waiting[ticket]
                self._submit(image)

    def _submit(self, image: Image) -> None:
        """As `PoolRun` does: small images have all their steps in the place of the first."""
        ticket = image.ticket
        unit = Unit(
            device=_DEVICE,
            cost=image.step_seconds,
            caller=ticket.caller,
            weight=ticket.weight,
            batch=ticket.batch,
            since=image.first_number,
        )
        self._stepping[unit] = image
        self._scheduler.submit(unit, self._clock())
        if ticket.needs.at_a_stretch:
            image.first_number = unit.number

    def _give(self) -> None:
        """Units have no batch key here, so the scheduler never asks to be woken."""
        while (grant := self._scheduler.grant(_DEVICE, self._clock())) is not None:
            self._grants.append(grant)
            if len(self._grants) == 1:
                self._compute()

    def _compute(self) -> None:
        seconds = 0.0
        for unit in self._grants[0].units:
            image = self._stepping[unit]
            if math.isnan(image.began_at):
                image.began_at = self._clock()
                self._began(image)
            seconds += unit.cost * self._chance.uniform(1 - _NOISE, 1 + _NOISE)
        self._after(seconds, lambda: self._computed(seconds))

    def _computed(self, seconds: float) -> None:
        self.busy_seconds += seconds
        grant = self._grants.pop(0)
        for unit in grant.units:
            image = self._stepping.pop(unit)
            image.steps -= 1
            image.ticket.seconds_left = max(0.0, image.ticket.seconds_left - image.step_seconds)
            if image.steps:  # before the device is given to others, as `PoolRun` does
                self._submit(image)
            self._scheduler.finished(unit, seconds / len(grant.units))
            if not image.steps:
                self._admission.leave(image.ticket)
        self._open()
        if self._grants:
            self._compute()
        self._give()
