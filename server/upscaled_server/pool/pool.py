"""The pool: every device's worker, and the one way to run an image on them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, Unpack

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.run import Bits, Planes
from upscaled_server.engine.variant import Variant
from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.errors import Unavailable
from upscaled_server.pool.admission import Admission
from upscaled_server.pool.claim import Claim, ClaimOptions
from upscaled_server.pool.devices import Device
from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.fleet import Fleet
from upscaled_server.pool.opening import Desk, OpeningChain, OpeningRun
from upscaled_server.pool.places import Place
from upscaled_server.pool.scheduler.policy import Policy
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.speed import Speed
from upscaled_server.pool.stats import DeviceStats, PoolStats, QueueStats
from upscaled_server.pool.supervisor import Supervisor
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

log = logging.getLogger("upscaled_server.pool")

ENGINE = "upscaled_server.pool.factory:build_engine"

# A catalogue name, or one with a backend and adjustments.
Model: TypeAlias = str | Variant


class Pool:
    """Runs images on the devices of this machine. One per server; lives on one event loop.

        await pool.start()
        plan = pool.plan(model, width, height)
        async with pool.open(model, plan, out_bits=8) as run:
            while not run.done:
                if run.rows_wanted:
                    await run.feed(rows)
                else:
                    rows = await run.step()
        await pool.aclose()

    `weights` says where the workers look for weight files. `engine` names what a worker computes with,
    `module:function`, called there with a JSON dictionary; it is for tests, which cannot hand an object to
    another process. `catalogue` may change while the pool runs; the workers hear of it with each model they
    load.
    """

    def __init__(
        self,
        settings: PoolSettings,
        weights: StoreOptions,
        *,
        engine: str = ENGINE,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._settings = settings
        self._fleet = Fleet(settings, weights, engine, catalogue or Catalogue(), self._changed)
        self._places: dict[str, Place] = {}
        self._prepare(())
        self._speed = Speed()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._closing = False

    async def start(self) -> None:
        """Find the devices and start a worker on each; returns when all have answered, and `ready` may come
        later. Raises as `Fleet.start` does.
        """
        if self._settings.faults:
            log.warning("FAULTS ON PURPOSE (UPSCALED_FAULTS=%s): not for production", self._settings.faults)
        await self._fleet.start(self._prepare)

    def _prepare(self, devices: tuple[Device, ...]) -> None:
        """Empty queues for these devices."""
        settings = self._settings
        self._places = {
            device.name: Place(device.name, device.budget_bytes, settings.max_open_runs) for device in devices
        }
        self._admission = Admission(
            list(self._places.values()),
            settings.max_waiting_runs,
            settings.max_pending_seconds,
            settings.aging_seconds,
        )
        policy = Policy(ahead=settings.steps_ahead, aging_seconds=settings.aging_seconds)
        self._dispatcher = Dispatcher(tuple(self._places), policy)

    async def aclose(self, drain_seconds: float | None = None) -> None:
        """Refuse new runs, let open ones finish for up to `drain_seconds` (default: the setting), end the
        workers.

        Runs that are still open then fail with `WorkerLost`. Nothing is left: no process, thread, descriptor
        or task.
        """
        self._closing = True
        self._news.set()
        self._admission.close()
        if drain_seconds is None:
            drain_seconds = self._settings.drain_seconds
        try:
            async with asyncio.timeout(drain_seconds):
                await self._admission.idle.wait()
        except TimeoutError:
            log.warning("%d images were not finished within %.0f s", self._admission.open, drain_seconds)
        finally:
            await self._fleet.aclose()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._dispatcher.close()

    @property
    def ready(self) -> bool:
        """Whether it makes sense to send images: a device has had every model of `warm_models` in memory and
        has computed something with it, and workers can be started.

        It does not depend on load, nor on a worker that is being replaced: a single image that ends its
        worker must not turn away the others.
        """
        supervisors = self._fleet.supervisors.values()
        return (
            not self._closing
            and any(each.warm for each in supervisors)
            and not all(each.given_up for each in supervisors)
        )

    async def readiness(self) -> AsyncGenerator[bool, None]:
        """`ready`, now and whenever it changes. For one listener."""
        said: bool | None = None
        while True:
            self._news.clear()
            if self.ready is not said:
                said = self.ready
                yield said
            await self._news.wait()

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices in use, in order. Empty before `start`."""
        return self._fleet.devices

    @property
    def backends(self) -> tuple[str, ...]:
        """What can compute here: what the devices do it with by themselves, then what a request may choose.

        `ncnn`, `torch`, `realesrgan`, each once.
        """
        own = [self.backend_of(device) for device in self.devices]
        every = [name for each in self._fleet for name in each.engine_device.backends]
        return tuple(dict.fromkeys([*own, *every]))

    def backend_of(self, device: Device) -> str:
        """What a device computes with."""
        return self._fleet.of(device.name).engine_device.backend

    def is_up(self, device: Device) -> bool:
        """Whether the device's worker is there; false while it restarts."""
        return self._fleet.of(device.name).up

    @property
    def waiting(self) -> int:
        """Openings that wait for a place."""
        return self._admission.waiting

    @property
    def stats(self) -> PoolStats:
        supervisors = self._fleet.supervisors.values()
        return PoolStats(
            open_runs=self._admission.open,
            waiting_runs=self._admission.waiting,
            waiting_steps=self._dispatcher.waiting,
            seconds_pending=self._admission.seconds_pending,
            workers_up=sum(each.up for each in supervisors),
            worker_restarts=sum(each.restarts for each in supervisors),
            queues={"interactive": self._queue(batch=False), "batch": self._queue(batch=True)},
            limit_device_seconds=self._admission.limit_device_seconds,
        )

    def _queue(self, *, batch: bool) -> QueueStats:
        admitted = self._admission.queue(batch=batch)
        units, oldest = self._dispatcher.waiting_of(batch=batch)
        return replace(admitted, units=units, oldest_seconds=max(admitted.oldest_seconds, oldest))

    @property
    def device_stats(self) -> Mapping[str, DeviceStats]:
        """By the names of the devices; none before `start`."""
        return {
            name: DeviceStats(
                each.up, each.restarts, len(each.models.loaded), each.device.memory_bytes, each.counts
            )
            for name, each in self._fleet.supervisors.items()
        }

    def traits(self, model: Model, device: str | None = None) -> NetworkTraits:
        """What the planner must know of a model on a device (default: the first). Loads nothing.

        Raises `NotFound`, and `FailedPrecondition` for a backend that is not to be had there.
        """
        return self._fleet.of(device).traits(Variant.of(model))

    def plan(self, model: Model, width: int, height: int, device: str | None = None) -> RunPlan:
        """The plan for an image of this many input pixels. Raises as `traits` does, and `LimitExceeded`."""
        supervisor, variant = self._fleet.of(device), Variant.of(model)
        return supervisor.plan(variant, width, height, self._measured(supervisor, variant))

    async def load(self, model: Model) -> Provenance:
        """Bring a model into every worker's memory, fetching its weights if need be; where it is, nothing
        happens.

        Raises `NotFound`, `WeightsUnavailable`, `WeightsRejected`, `FailedPrecondition`, `Unavailable`.
        """
        return (await asyncio.gather(*(each.models.load(Variant.of(model)) for each in self._fleet)))[0]

    async def provenance(self, model: Model) -> Provenance:
        """What a run of this model would report, but for a precision that had to change since it was loaded.
        Loads it, as `load` does."""
        return await self._fleet.of(None).models.load(Variant.of(model))

    async def unload(self, model: str) -> bool:
        """Free a model everywhere, in all its variants. False if it was nowhere loaded. Raises
        `FailedPrecondition` while it is in use.
        """
        return any(await asyncio.gather(*(each.models.unload(model) for each in self._fleet)))

    def loaded(self, model: str) -> bool:
        """Whether a worker has the model in memory."""
        return any(model in each.models.loaded for each in self._fleet.supervisors.values())

    def estimate_seconds(self, model: Model, plan: RunPlan, device: str | None = None) -> float:
        """How long a device will compute for a plan: from measured speed, before any from the catalogue's."""
        supervisor, variant = self._fleet.of(device), Variant.of(model)
        measured = self._measured(supervisor, variant)
        if measured is None:
            traits = supervisor.traits(variant)
            measured = traits.seconds_per_pixel / (plan.parallel * plan.threads)
        return measured * plan.computed_pixels

    def _measured(self, supervisor: Supervisor, variant: Variant) -> float | None:
        return self._speed.seconds_per_pixel(supervisor.device.name, variant.speed_key)

    def seconds_per_pixel(self, model: str, device: str | None = None) -> float | None:
        """Measured device seconds per computed input pixel; None before the first step."""
        return self._speed.seconds_per_pixel(self._fleet.of(device).device.name, model)

    def check_queue(self, coming: int, *, batch: bool) -> None:
        """Raises `Overloaded` where an image would be refused whatever it is, so that it need not be decoded
        first. `coming`: how many others are on their way to the queue."""
        self._admission.check_queue(coming, batch=batch)

    def open(
        self,
        model: Model,
        plan: RunPlan,
        out_bits: Bits,
        device: str | None = None,
        **claim: Unpack[ClaimOptions],
    ) -> OpeningRun:
        """A run, as an async context manager. Entering waits for a place, loads the model if need be, and
        gives a `PoolRun`; before that, `outlook` and `position` tell how the queue stands.

        Callers who want more than there is get device seconds by their `weight`. `priority`: interactive work
        goes before batch work. `deadline` is a moment of `time.monotonic()`; it is only planned with, not
        enforced.

        Entering raises `Overloaded` when too much waits, `DeadlinePassed` when the deadline cannot be met,
        `LimitExceeded` for a run that no device could hold, `Unavailable` when the server stops or no worker
        can be started, and what `load` raises. Leaving returns at once; the worker is told to drop the run,
        and its place is free when it has. All of it may be cancelled.
        """
        return OpeningRun(self._desk(), Variant.of(model), (plan,), out_bits, device, Claim(**claim))

    def open_chain(
        self,
        model: Model,
        plans: Sequence[RunPlan],
        out_bits: Bits,
        device: str | None = None,
        *,
        planes: Sequence[Planes] = (),
        **claim: Unpack[ClaimOptions],
    ) -> OpeningChain:
        """Several runs of one image at once, for passes that feed each other and for alpha beside colour; see
        `open`. `planes`: for each run, 3 for RGB rows (the default), 1 for their luma.

        They are admitted together: one after the other, two images could each wait for what the other holds.
        """
        desk, variant = self._desk(), Variant.of(model)
        return OpeningChain(desk, variant, plans, out_bits, device, Claim(**claim), planes)

    def _desk(self) -> Desk:
        return Desk(
            {each.device.name: each for each in self._fleet},
            self._admission,
            self._dispatcher,
            self._speed,
            self._settings.step_limit_seconds,
            self.estimate_seconds,
            self._in_background,
            self._numbers,
        )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self, supervisor: Supervisor) -> None:
        self._news.set()
        self._places[supervisor.device.name].up = supervisor.up
        if supervisor.up:
            self._admission.advance()
        elif all(each.given_up for each in self._fleet):
            self._admission.refuse_waiting(_no_worker)


def _no_worker() -> Unavailable:
    return Unavailable("no worker can be started on this server")
