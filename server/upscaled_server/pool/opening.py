"""Opening runs: a ticket, a place, a model in memory, a run in the worker; and letting go at any point."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.run import Bits, Planes
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import Unavailable, WorkerLost
from upscaled_server.pool.admission import Admission
from upscaled_server.pool.claim import Claim, Needs
from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.forecast import Outlook
from upscaled_server.pool.life import Terms
from upscaled_server.pool.places import Ticket
from upscaled_server.pool.process import WorkerProcess
from upscaled_server.pool.replay import ahead_rows, kept_bytes
from upscaled_server.pool.run import PoolRun
from upscaled_server.pool.speed import Speed
from upscaled_server.pool.supervisor import Supervisor
from upscaled_server.telemetry import metrics
from upscaled_server.tiling.plan import RunPlan

log = logging.getLogger("upscaled_server.pool")

# A step may take this many times its estimate, beyond the limit of the settings, before it is called a hang.
_HANG_FACTOR = 20

# Loading a model is tried on so many workers. One of them dying may have been for another reason.
_LOAD_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Desk:
    """What an opening needs of the pool."""

    supervisors: Mapping[str, Supervisor]
    admission: Admission
    dispatcher: Dispatcher
    speed: Speed
    step_limit_seconds: float
    estimate_seconds: Callable[[Variant, RunPlan, str | None], float]
    in_background: Callable[[Coroutine[Any, Any, None]], None]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Opening:
    """Runs of one image that wait for their place, are open, or closed. The base of what `Pool.open*`
    return."""

    def __init__(
        self,
        desk: Desk,
        variant: Variant,
        plans: Sequence[RunPlan],
        out_bits: Bits,
        device: str | None,
        claim: Claim,
        planes: Sequence[Planes] = (),
    ) -> None:
        self._desk = desk
        self._variant = variant
        self._plans = plans
        self._out_bits = out_bits
        self._device = device
        self._claim = claim
        every_colour: Sequence[Planes] = [3] * len(plans)
        self._planes = planes or every_colour
        self._ticket: Ticket | None = None
        self._runs: list[PoolRun] = []
        self._held = ExitStack()

    @property
    def position(self) -> int:
        """Place in the queue while entering: 1 is next; 0 when it has its place, or has not asked for one."""
        return 0 if self._ticket is None else self._desk.admission.position(self._ticket)

    @property
    def outlook(self) -> Outlook | None:
        """When its work will begin and end, estimated from the device seconds of all that goes before it and
        beside it; before entering, as if it entered now. None when it has its place.
        """
        ticket = self._ticket or self._make_ticket()
        return None if ticket.place is not None else self._desk.admission.outlook(ticket)

    @property
    def wait_seconds(self) -> float:
        """An estimate of how long it will be before a device begins with it; 0 when it has its place."""
        outlook = self.outlook
        return 0.0 if outlook is None else outlook.begins_in_seconds

    async def _enter(self) -> list[PoolRun]:
        try:
            if all(each.given_up for each in self._desk.supervisors.values()):
                raise Unavailable("no worker can be started on this server")
            ticket = self._make_ticket()
            self._desk.admission.enter(ticket)
            self._ticket = ticket
            place = await self._desk.admission.wait(ticket)
            await self._open_on(self._desk.supervisors[place.name], ticket)
        except BaseException:  # a cancellation too
            self._leave()
            raise
        return self._runs

    def _make_ticket(self) -> Ticket:
        desk, plans = self._desk, self._plans
        seconds = [desk.estimate_seconds(self._variant, plan, self._device) for plan in plans]
        device = self._device or next(iter(desk.supervisors))
        needs = Needs(
            state_bytes=sum(map(self._state_bytes, plans)),
            working_bytes=max(plan.working_bytes for plan in plans),
            seconds=sum(seconds),
            step_seconds=max(each / plan.steps for each, plan in zip(seconds, plans, strict=True)),
            measured=desk.speed.seconds_per_pixel(device, self._variant.speed_key) is not None,
            only_on=self._device,
            pixels=sum(plan.width * plan.height for plan in plans),
        )
        return Ticket.of(needs, self._claim)

    def _state_bytes(self, plan: RunPlan) -> int:
        """Two bytes a value, whatever the depth turns out to be."""
        waiting = ahead_rows(plan) * plan.width * 3 * 2
        kept = kept_bytes(plan, in_bytes=2)
        return plan.state_bytes(in_bytes=2, out_bytes=2) + waiting + kept

    async def _open_on(self, supervisor: Supervisor, ticket: Ticket) -> None:
        self._held.enter_context(supervisor.models.used(self._variant.model))
        provenance = (await self._find(supervisor))[1]
        for plan, planes in zip(self._plans, self._planes, strict=True):
            run = PoolRun(
                plan, provenance, supervisor.device, self._terms(supervisor, ticket, plan, planes, provenance)
            )
            self._runs.append(run)
            await run.begin()

    def _terms(
        self, supervisor: Supervisor, ticket: Ticket, plan: RunPlan, planes: Planes, provenance: Provenance
    ) -> Terms:
        desk, claim, device = self._desk, self._claim, supervisor.device.name
        seconds_of_all = desk.estimate_seconds(self._variant, plan, device)
        step_seconds = seconds_of_all / plan.steps

        async def find_worker(lost: WorkerLost | None) -> WorkerProcess:
            try:
                worker, found = await self._find(supervisor)
            except Unavailable as error:
                # While the pool is being closed, that a worker has ended is the news.
                raise (lost or error) from None
            # A card may have gone to another precision since, which the run tells by itself.
            if replace(found, precision=provenance.precision) != provenance:
                raise WorkerLost("the model has changed since the image was begun", device=device)
            return worker

        def on_step(seconds: float, pixels: float) -> None:
            desk.speed.note(device, self._variant.speed_key, pixels, seconds)
            expected = seconds_of_all * pixels / plan.computed_pixels
            ticket.seconds_left = max(0.0, ticket.seconds_left - expected)
            metrics.CALLER_SECONDS.labels(metrics.CALLERS(claim.caller)).inc(seconds)

        return Terms(
            variant=self._variant,
            out_bits=self._out_bits,
            planes=planes,
            caller=claim.caller,
            weight=claim.weight,
            batch=claim.batch,
            deadline=claim.deadline,
            step_seconds=step_seconds,
            step_limit_seconds=desk.step_limit_seconds + _HANG_FACTOR * step_seconds,
            at_a_stretch=ticket.needs.at_a_stretch,
            dispatcher=desk.dispatcher,
            find_worker=find_worker,
            new_number=lambda: next(desk.numbers),
            on_step=on_step,
            attended=ticket.attended,
        )

    async def _find(self, supervisor: Supervisor) -> tuple[WorkerProcess, Provenance]:
        """The device's worker, with the model in its memory."""
        for attempt in itertools.count(1):
            try:
                provenance = await supervisor.models.load(self._variant)
                return await supervisor.available(), provenance
            except WorkerLost:
                if attempt == _LOAD_ATTEMPTS:
                    raise
        raise AssertionError

    def _leave(self) -> None:
        """Let go of everything, in the background: the worker may be in the middle of a step."""
        self._desk.in_background(self._let_go())

    async def _let_go(self) -> None:
        try:
            for outcome in await asyncio.gather(*(run.close() for run in self._runs), return_exceptions=True):
                # With a lost worker the run is gone too.
                if isinstance(outcome, Exception) and not isinstance(outcome, WorkerLost):
                    log.error("closing a run failed", exc_info=outcome)
        finally:
            self._held.close()
            if self._ticket is not None:
                self._desk.admission.leave(self._ticket)


class OpeningRun(Opening):
    """An async context manager that gives a `PoolRun`."""

    async def __aenter__(self) -> PoolRun:
        return (await self._enter())[0]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()


class OpeningChain(Opening):
    """An async context manager that gives as many `PoolRun` as there are plans, on one device."""

    async def __aenter__(self) -> tuple[PoolRun, ...]:
        return tuple(await self._enter())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
