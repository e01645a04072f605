"""The pool: every device's worker, and the one way to run an image on them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.run import Bits, Planes
from upscaled_server.engine.variant import Variant
from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.pool.admission import Admission, Place
from upscaled_server.pool.devices import Device, find_devices
from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.factory import engine_config
from upscaled_server.pool.opening import Claim, Desk, OpeningChain, OpeningRun, PriorityClass
from upscaled_server.pool.scheduler.policy import Policy
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.speed import Speed
from upscaled_server.pool.supervisor import Supervisor
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

log = logging.getLogger("upscaled_server.pool")

ENGINE = "upscaled_server.pool.factory:build_engine"

# A catalogue name, or one with a backend and adjustments.
Model: TypeAlias = str | Variant


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What the pool is doing now, for logs and metrics."""

    open_runs: int
    waiting_runs: int
    waiting_steps: int
    seconds_pending: float
    workers_up: int
    worker_restarts: int


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
        self._weights = weights
        self._engine = engine
        self._catalogue = catalogue or Catalogue()
        self._supervisors: dict[str, Supervisor] = {}
        self._places: dict[str, Place] = {}
        self._admission = self._new_admission()
        self._dispatcher = self._new_dispatcher()
        self._speed = Speed()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Find the devices and start a worker on each; returns when all have answered.

        With devices `auto`, cards that cannot be used (a torch without CUDA, say) are left for the CPU, with
        a warning. Raises `FailedPrecondition` for devices that are named and cannot be used, `Unavailable`
        for workers that do not start.
        """
        if self._settings.faults:
            log.warning("FAULTS ON PURPOSE (UPSCALED_FAULTS=%s): not for production", self._settings.faults)
        devices = await asyncio.to_thread(find_devices, self._settings)
        try:
            await self._start_on(devices)
        except FailedPrecondition as error:
            if self._settings.devices != "auto" or devices[0].kind == "cpu":
                raise
            log.warning("the CUDA devices cannot be used, so the CPU is: %s", error.message)
            await self._start_on(find_devices(self._settings.model_copy(update={"devices": "cpu"})))

    async def _start_on(self, devices: tuple[Device, ...]) -> None:
        self._supervisors = {
            device.name: Supervisor(
                device,
                self._settings,
                self._engine,
                engine_config(device, self._weights),
                self._changed,
                self._catalogue,
            )
            for device in devices
        }
        self._places = {
            device.name: Place(device.name, device.budget_bytes, self._settings.max_open_runs)
            for device in devices
        }
        self._admission = self._new_admission()
        self._dispatcher = self._new_dispatcher()
        starting = [asyncio.create_task(each.start()) for each in self._supervisors.values()]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for each in starting:
                each.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self._end_workers()
            raise

    def _new_admission(self) -> Admission:
        settings = self._settings
        return Admission(
            list(self._places.values()),
            settings.max_waiting_runs,
            settings.max_pending_seconds,
            settings.aging_seconds,
        )

    def _new_dispatcher(self) -> Dispatcher:
        settings = self._settings
        policy = Policy(ahead=settings.steps_ahead, aging_seconds=settings.aging_seconds)
        return Dispatcher(tuple(self._places), policy)

    async def aclose(self, drain_seconds: float | None = None) -> None:
        """Refuse new runs, let open ones finish for up to `drain_seconds` (default: the setting), end the
        workers.

        Runs that are still open then fail with `WorkerLost`. Nothing is left: no process, thread, descriptor
        or task.
        """
        self._closing = True
        self._admission.close()
        if drain_seconds is None:
            drain_seconds = self._settings.drain_seconds
        try:
            async with asyncio.timeout(drain_seconds):
                await self._admission.idle.wait()
        except TimeoutError:
            log.warning("%d images were not finished within %.0f s", self._admission.open, drain_seconds)
        finally:
            await self._end_workers()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._dispatcher.close()

    async def _end_workers(self) -> None:
        await asyncio.gather(*(each.aclose() for each in self._supervisors.values()))

    @property
    def ready(self) -> bool:
        """Whether a worker is up. Does not depend on load."""
        return not self._closing and any(each.up for each in self._supervisors.values())

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices in use, in order. Empty before `start`."""
        return tuple(each.device for each in self._supervisors.values())

    @property
    def backends(self) -> tuple[str, ...]:
        """What can compute here: what the devices do it with by themselves, then what a request may choose.

        `ncnn`, `torch`, `realesrgan`, each once.
        """
        own = [self.backend_of(device) for device in self.devices]
        every = [name for each in self._all() for name in each.engine_device.backends]
        return tuple(dict.fromkeys([*own, *every]))

    def backend_of(self, device: Device) -> str:
        """What a device computes with."""
        return self._supervisor(device.name).engine_device.backend

    def is_up(self, device: Device) -> bool:
        """Whether the device's worker is there; false while it restarts."""
        return self._supervisor(device.name).up

    @property
    def waiting(self) -> int:
        """Openings that wait for a place."""
        return self._admission.waiting

    @property
    def stats(self) -> PoolStats:
        supervisors = self._supervisors.values()
        return PoolStats(
            open_runs=self._admission.open,
            waiting_runs=self._admission.waiting,
            waiting_steps=self._dispatcher.waiting,
            seconds_pending=self._admission.seconds_pending,
            workers_up=sum(each.up for each in supervisors),
            worker_restarts=sum(each.restarts for each in supervisors),
        )

    def traits(self, model: Model, device: str | None = None) -> NetworkTraits:
        """What the planner must know of a model on a device (default: the first). Loads nothing.

        Raises `NotFound`, and `FailedPrecondition` for a backend that is not to be had there.
        """
        return self._supervisor(device).traits(Variant.of(model))

    def plan(self, model: Model, width: int, height: int, device: str | None = None) -> RunPlan:
        """The plan for an image of this many input pixels. Raises as `traits` does, and `LimitExceeded`."""
        return self._supervisor(device).plan(Variant.of(model), width, height)

    async def load(self, model: Model) -> Provenance:
        """Bring a model into every worker's memory, fetching its weights if need be; where it is, nothing
        happens.

        Raises `NotFound`, `WeightsUnavailable`, `WeightsRejected`, `FailedPrecondition`, `Unavailable`.
        """
        return (await asyncio.gather(*(each.models.load(Variant.of(model)) for each in self._all())))[0]

    async def provenance(self, model: Model) -> Provenance:
        """What a run of this model would report. Loads it, as `load` does."""
        return await self._supervisor(None).models.load(Variant.of(model))

    async def unload(self, model: str) -> bool:
        """Free a model everywhere, in all its variants. False if it was nowhere loaded. Raises
        `FailedPrecondition` while it is in use.
        """
        return any(await asyncio.gather(*(each.models.unload(model) for each in self._all())))

    def loaded(self, model: str) -> bool:
        """Whether a worker has the model in memory."""
        return any(model in each.models.loaded for each in self._supervisors.values())

    def estimate_seconds(self, model: Model, plan: RunPlan, device: str | None = None) -> float:
        """How long a device will compute for a plan: from measured speed, before any from the catalogue's."""
        supervisor, variant = self._supervisor(device), Variant.of(model)
        measured = self._speed.seconds_per_pixel(supervisor.device.name, variant.speed_key)
        if measured is None:
            traits = supervisor.traits(variant)
            measured = traits.seconds_per_pixel / (plan.parallel * plan.threads)
        return measured * plan.computed_pixels

    def seconds_per_pixel(self, model: str, device: str | None = None) -> float | None:
        """Measured device seconds per computed input pixel; None before the first step."""
        return self._speed.seconds_per_pixel(self._supervisor(device).device.name, model)

    def open(
        self,
        model: Model,
        plan: RunPlan,
        out_bits: Bits,
        device: str | None = None,
        *,
        caller: str = "",
        weight: float = 1.0,
        priority: PriorityClass = "interactive",
        deadline: float | None = None,
    ) -> OpeningRun:
        """A run, as an async context manager. Entering waits for a place, loads the model if need be, and
        gives a `PoolRun`; meanwhile `position` and `seconds_ahead` tell how the queue stands.

        Callers who want more than there is get device seconds by their `weight`. `priority`: interactive work
        goes before batch work. `deadline` is a moment of `time.monotonic()`; it is only planned with, not
        enforced.

        Entering raises `Overloaded` when too much waits, `DeadlinePassed` when the deadline cannot be met,
        `LimitExceeded` for a run that no device could hold, `Unavailable` when the server stops or no worker
        can be started, and what `load` raises. Leaving returns at once; the worker is told to drop the run,
        and its place is free when it has. All of it may be cancelled.
        """
        claim = Claim(caller=caller, weight=weight, priority=priority, deadline=deadline)
        return OpeningRun(self._desk(), Variant.of(model), (plan,), out_bits, device, claim)

    def open_chain(
        self,
        model: Model,
        plans: Sequence[RunPlan],
        out_bits: Bits,
        device: str | None = None,
        *,
        planes: Sequence[Planes] = (),
        caller: str = "",
        weight: float = 1.0,
        priority: PriorityClass = "interactive",
        deadline: float | None = None,
    ) -> OpeningChain:
        """Several runs of one image at once, for passes that feed each other and for alpha beside colour; see
        `open`. `planes`: for each run, 3 for RGB rows (the default), 1 for their luma.

        They are admitted together: one after the other, two images could each wait for what the other holds.
        """
        claim = Claim(caller=caller, weight=weight, priority=priority, deadline=deadline)
        return OpeningChain(self._desk(), Variant.of(model), plans, out_bits, device, claim, planes)

    def _desk(self) -> Desk:
        self._all()
        return Desk(
            self._supervisors,
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

    def _supervisor(self, device: str | None) -> Supervisor:
        if not self._supervisors:
            raise Unavailable("the pool has not been started")
        if device is None:
            return next(iter(self._supervisors.values()))
        try:
            return self._supervisors[device]
        except KeyError:
            raise FailedPrecondition(f"there is no device {device}") from None

    def _all(self) -> list[Supervisor]:
        if not self._supervisors:
            raise Unavailable("the pool has not been started")
        return list(self._supervisors.values())

    def _changed(self, supervisor: Supervisor) -> None:
        self._places[supervisor.device.name].up = supervisor.up
        if supervisor.up:
            self._admission.advance()
        elif all(each.given_up for each in self._supervisors.values()):
            self._admission.refuse_waiting(_no_worker)


def _no_worker() -> Unavailable:
    return Unavailable("no worker can be started on this server")
