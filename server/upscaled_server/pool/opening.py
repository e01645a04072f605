"""Opening runs: a ticket, a place, a model in memory, a run in the worker; and letting go at any point."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from upscaled_server.engine.run import Bits, Planes
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import Unavailable, WorkerLost
from upscaled_server.pool.admission import Admission, Ticket
from upscaled_server.pool.run import PoolRun, Seat
from upscaled_server.pool.speed import Speed
from upscaled_server.pool.supervisor import Supervisor
from upscaled_server.tiling.plan import RunPlan

log = logging.getLogger("upscaled_server.pool")

# A step may take this many times its estimate, beyond the limit of the settings, before it is called a hang.
_HANG_FACTOR = 20


@dataclass(frozen=True, slots=True)
class Desk:
    """What an opening needs of the pool."""

    supervisors: Mapping[str, Supervisor]
    admission: Admission
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
        planes: Sequence[Planes] = (),
    ) -> None:
        self._desk = desk
        self._variant = variant
        self._plans = plans
        self._out_bits = out_bits
        self._device = device
        self._planes = planes or (3,) * len(plans)
        self._ticket: Ticket | None = None
        self._seats: list[Seat] = []
        self._runs: list[PoolRun] = []

    @property
    def position(self) -> int:
        """Place in the queue while entering: 1 is next; 0 when it has its place, or has not asked for one."""
        return 0 if self._ticket is None else self._desk.admission.position(self._ticket)

    @property
    def seconds_ahead(self) -> float:
        """An estimate of how long it will still wait for its place."""
        return 0.0 if self._ticket is None else self._desk.admission.seconds_ahead(self._ticket)

    async def _enter(self) -> list[PoolRun]:
        try:
            ticket = self._ticket = self._take_ticket()
            place = await self._desk.admission.wait(ticket)
            supervisor = self._desk.supervisors[place.name]
            try:
                await self._open_on(supervisor, ticket)
            except WorkerLost:
                # Nothing was fed yet, so nothing is lost by going on with the next worker. Once: a model or a
                # plan that ends the worker would end every one.
                self._seats.clear()
                self._runs.clear()
                await self._open_on(supervisor, ticket)
        except BaseException:
            self._leave()
            raise
        return self._runs

    def _take_ticket(self) -> Ticket:
        supervisors = self._desk.supervisors.values()
        if all(each.given_up for each in supervisors):
            raise Unavailable("no worker can be started on this server")
        seconds = [self._desk.estimate_seconds(self._variant, plan, self._device) for plan in self._plans]
        return self._desk.admission.enter(
            # Two bytes a value, whatever the depth turns out to be.
            state_bytes=sum(plan.state_bytes(in_bytes=2, out_bytes=2) for plan in self._plans),
            working_bytes=max(plan.working_bytes for plan in self._plans),
            seconds=sum(seconds),
            only_on=self._device,
        )

    async def _open_on(self, supervisor: Supervisor, ticket: Ticket) -> None:
        provenance = await supervisor.load(self._variant)
        worker = await supervisor.available()
        for plan, planes in zip(self._plans, self._planes, strict=True):
            seat = Seat(supervisor.device, worker, supervisor.turns, next(self._desk.numbers))
            self._seats.append(seat)
            answer = await worker.call(
                "open",
                run=seat.number,
                variant=self._variant.to_dict(),
                plan=plan.to_dict(),
                out_bits=self._out_bits,
                planes=planes,
            )
            seconds = self._desk.estimate_seconds(self._variant, plan, supervisor.device.name)
            step_seconds = seconds / plan.steps
            run = PoolRun(
                seat,
                plan,
                provenance,
                answer.result,
                step_limit_seconds=self._desk.step_limit_seconds + _HANG_FACTOR * step_seconds,
                on_step=self._stepped(ticket, seat, plan, step_seconds),
                attended=ticket.attended,
            )
            self._runs.append(run)

    def _stepped(
        self, ticket: Ticket, seat: Seat, plan: RunPlan, step_seconds: float
    ) -> Callable[[float], None]:
        pixels = plan.computed_pixels // plan.steps

        def note(seconds: float) -> None:
            self._desk.speed.note(seat.device.name, self._variant.speed_key, pixels, seconds)
            ticket.seconds_left = max(0.0, ticket.seconds_left - step_seconds)

        return note

    def _leave(self) -> None:
        """Let go of everything, in the background: the worker may be in the middle of a step."""
        self._desk.in_background(self._let_go())

    async def _let_go(self) -> None:
        try:
            closing: list[Coroutine[Any, Any, object]] = [run.close() for run in self._runs]
            # The worker may be opening the last one right now, and closes it then.
            closing += [seat.worker.call("close", run=seat.number) for seat in self._seats[len(self._runs) :]]
            for outcome in await asyncio.gather(*closing, return_exceptions=True):
                # With a lost worker the run is gone too.
                if isinstance(outcome, Exception) and not isinstance(outcome, WorkerLost):
                    log.error("closing a run failed", exc_info=outcome)
        finally:
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
