"""A device's worker over its lifetimes: started, and started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from upscaled_server.engine.catalogue import Catalogue, Spec
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.device import Device as EngineDevice
from upscaled_server.engine.planning import device_for, plan_image
from upscaled_server.engine.provenance import Provenance, WeightsSource
from upscaled_server.engine.traits import network_traits
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import DomainError, Unavailable
from upscaled_server.pool.devices import Device
from upscaled_server.pool.process import WorkerOptions, WorkerProcess
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.turns import Turns
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

log = logging.getLogger("upscaled_server.pool")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
_HEALTHY_AFTER_SECONDS = 30.0
_GIVE_UP_WAITING_AFTER = 3


class Supervisor:
    """Keeps one worker running on one device, with growing pauses between attempts, until `aclose`.

    `on_change(up)` is called when a worker is there and when it is gone. `turns` belongs to the worker of the
    moment: a new one begins with none taken.
    """

    def __init__(
        self,
        device: Device,
        settings: PoolSettings,
        engine: str,
        config: dict[str, object],
        on_change: Callable[[Supervisor], None],
        catalogue: Catalogue,
    ) -> None:
        self.device = device
        self.worker: WorkerProcess | None = None
        self.turns = Turns(settings.steps_ahead)
        self.restarts = 0
        self.failed_starts = 0
        self._settings = settings
        self._on_change = on_change
        self._options = WorkerOptions(
            engine=engine,
            config=config,
            environment=_environment(device),
            nice=settings.worker_nice if device.kind == "cpu" else 0,
            start_limit_seconds=settings.worker_start_limit_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            heartbeat_limit_seconds=settings.heartbeat_limit_seconds,
        )
        self._up = asyncio.Event()
        self._catalogue = catalogue
        self._engine_device: EngineDevice | None = None
        # By variant and the file of a model of the folder, so that a changed file is loaded anew.
        self._loads: dict[tuple[Variant, str], asyncio.Task[Provenance]] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def up(self) -> bool:
        return self.worker is not None

    @property
    def given_up(self) -> bool:
        """Whether starting has failed so often that nobody should wait for it. It is still tried."""
        return self.failed_starts >= _GIVE_UP_WAITING_AFTER

    async def start(self) -> None:
        """Start the first worker, and keep one from then on. Raises what `WorkerProcess.start` raises."""
        worker = await self._start_one()
        self._keeping = asyncio.get_running_loop().create_task(
            self._keep(worker), name=f"supervisor {self.device.name}"
        )

    async def aclose(self) -> None:
        """End the worker and stop starting new ones."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    @property
    def engine_device(self) -> EngineDevice:
        """What the worker's engine computes with. Raises `Unavailable` before a worker has said so."""
        if self._engine_device is None:
            raise Unavailable(f"the worker for {self.device.name} has not been started")
        return self._engine_device

    def traits(self, variant: Variant) -> NetworkTraits:
        """What the planner must know of a model on this device. Raises `NotFound`, `FailedPrecondition`."""
        return network_traits(*self._chosen(variant))

    def plan(self, variant: Variant, width: int, height: int) -> RunPlan:
        """The plan for an image on this device. Raises `NotFound`, `FailedPrecondition`, `LimitExceeded`."""
        spec, device = self._chosen(variant)
        budget, cores = self.device.run_budget_bytes, self.device.cores
        return plan_image(spec, device, width, height, budget_bytes=budget, parallel=cores)

    def _chosen(self, variant: Variant) -> tuple[Spec, EngineDevice]:
        spec = self._catalogue.resolve(variant.model)
        return spec, device_for(spec, self.engine_device, variant.backend)

    async def load(self, variant: Variant) -> Provenance:
        """Have a model in the worker's memory. Callers of one variant share one attempt, which goes on when
        they leave.
        """
        worker = await self.available()
        spec = self._catalogue.resolve(variant.model)
        custom = spec if isinstance(spec, CustomModel) else None
        if variant.denoise is not None:
            # The engine keeps the last few of these only, so it is told of every use.
            return await self._load(worker, variant, custom)
        key = (variant, "" if custom is None else custom.sha256)
        loading = self._loads.get(key)
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception() is not None)):
            loading = asyncio.get_running_loop().create_task(
                self._load(worker, variant, custom), name=f"load {variant}"
            )
            loading.add_done_callback(_look_at)
            self._loads[key] = loading
        return await asyncio.shield(loading)

    async def unload(self, model: str) -> bool:
        """Free a model. Raises `FailedPrecondition` while it is in use."""
        worker = await self.available()
        answer = await worker.call("unload", model=model)
        self._loads = {key: task for key, task in self._loads.items() if key[0].model != model}
        return bool(answer.result["unloaded"])

    @property
    def loaded(self) -> frozenset[str]:
        """The models in the worker's memory, by the names they were asked for."""
        return frozenset(
            variant.model
            for (variant, _), task in self._loads.items()
            if task.done() and not task.cancelled() and task.exception() is None
        )

    async def available(self) -> WorkerProcess:
        """The worker, waiting for it while it restarts. Raises `Unavailable` when it repeatedly could not be
        started.
        """
        while True:
            if self.worker is not None:
                return self.worker
            if self.given_up or self._ended:
                raise Unavailable(
                    f"the worker for {self.device.name} cannot be started", device=self.device.name
                )
            await self._up.wait()

    async def _load(self, worker: WorkerProcess, variant: Variant, custom: CustomModel | None) -> Provenance:
        try:
            async with asyncio.timeout(self._settings.load_limit_seconds):
                described = None if custom is None else custom.to_dict()
                answer = await worker.call("load", variant=variant.to_dict(), custom=described)
        except TimeoutError:
            raise Unavailable(f"{variant} could not be loaded in time", model=variant.model) from None
        packed = answer.result["provenance"]
        return Provenance(**{**packed, "weights": WeightsSource(**packed["weights"])})

    async def _keep(self, worker: WorkerProcess | None) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                if worker is not None:
                    began = time.monotonic()
                    await worker.lost.wait()
                    await worker.end()
                    if time.monotonic() - began > _HEALTHY_AFTER_SECONDS:
                        pause = FIRST_PAUSE_SECONDS
                    self.restarts += 1
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                worker = await self._try_start()
        finally:
            self._ended = True
            self.worker = None
            self._up.set()  # whoever waits is told
            if worker is not None:
                await worker.end()

    async def _try_start(self) -> WorkerProcess | None:
        try:
            return await self._start_one()
        except Exception as error:  # whatever it is, another attempt must follow
            self.failed_starts += 1
            surprise = None if isinstance(error, DomainError | OSError) else error
            log.error(
                "the worker for %s could not be started: %s", self.device.name, error, exc_info=surprise
            )
            if self.given_up:
                self._up.set()  # whoever waits is told
                self._on_change(self)
            return None

    async def _start_one(self) -> WorkerProcess:
        worker = WorkerProcess(self.device.name, self._options, lambda: self._gone(worker))
        began = time.monotonic()
        said = await worker.start()
        if worker.lost.is_set():  # in the moment between its answer and now
            await worker.end()
            raise Unavailable(f"the worker for {self.device.name} ended as soon as it had started")
        self.failed_starts = 0
        self._engine_device = EngineDevice(**said["device"])
        self.worker = worker
        self.turns = Turns(self._settings.steps_ahead)
        self._loads.clear()
        self._up.set()
        log.info(
            "worker %s (pid %d) is up after %.2f s", self.device.name, worker.pid, time.monotonic() - began
        )
        self._on_change(self)
        return worker

    def _gone(self, worker: WorkerProcess) -> None:
        if self.worker is worker:
            self.worker = None
            self._up.clear()
            self._on_change(self)


# For glibc. A worker's large blocks come and go in sizes that differ little; kept in the heaps of its threads
# they leave holes that add up to hundreds of megabytes over a large image.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(256 << 10),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
}


def _environment(device: Device) -> dict[str, str]:
    """What a worker's environment has beyond the server's: a CUDA worker sees its own card only."""
    if device.kind == "cpu":
        kept = {name: value for name, value in _ALLOCATOR.items() if name not in os.environ}
        return {"CUDA_VISIBLE_DEVICES": "", **kept}
    index = int(device.name.partition(":")[2])
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return {"CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) else str(index)}


def _look_at(task: asyncio.Task[Provenance]) -> None:
    if not task.cancelled():
        task.exception()  # the callers that are still there get it; with none left it is no news
