"""A device's worker over its lifetimes: started, and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable

from upscaled_server.engine.catalogue import Catalogue, Spec
from upscaled_server.engine.device import Device as EngineDevice
from upscaled_server.engine.planning import device_for, plan_image
from upscaled_server.engine.traits import network_traits
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import DomainError, Unavailable, WorkerLost
from upscaled_server.pool.devices import Device
from upscaled_server.pool.faults import parse_faults
from upscaled_server.pool.models import WorkerModels
from upscaled_server.pool.process import WorkerOptions, WorkerProcess
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.stats import DeviceCounts
from upscaled_server.tiling.bands import with_measured_steps
from upscaled_server.tiling.plan import NetworkTraits, RunPlan

log = logging.getLogger("upscaled_server.pool")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
FIRST_WARM_PAUSE_SECONDS = 2.0
LONGEST_WARM_PAUSE_SECONDS = 60.0
_HEALTHY_AFTER_SECONDS = 30.0
_GIVE_UP_WAITING_AFTER = 3


class Supervisor:
    """Keeps one worker running on one device, with growing pauses between attempts, until `aclose`.

    `on_change(self)` is called when a worker is there, when it is gone, and when `warm` turns true.
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
        self.restarts = 0
        self.failed_starts = 0
        self.counts = DeviceCounts()
        self.warm = False
        """Whether a worker of this device has had all models that are to be warm; once true, it stays so."""
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
            faults=parse_faults(settings.faults),
        )
        self._up = asyncio.Event()
        self._catalogue = catalogue
        self._engine_device: EngineDevice | None = None
        self.models = WorkerModels(
            catalogue,
            self.available,
            load_limit_seconds=settings.load_limit_seconds,
            warm_limit_seconds=settings.worker_start_limit_seconds,
            budget_bytes=settings.model_budget_bytes or device.memory_bytes // 4,
        )
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

    def plan(
        self, variant: Variant, width: int, height: int, seconds_per_pixel: float | None = None
    ) -> RunPlan:
        """The plan for an image on this device, which has computed input pixels of this variant at this
        speed, where that is known. Raises `NotFound`, `FailedPrecondition`, `LimitExceeded`."""
        spec, device = self._chosen(variant)
        # On a card others may have taken a part of what this server counts with.
        budget_bytes = min(self.device.run_budget_bytes, device.budget_bytes)
        plan = plan_image(
            spec,
            device,
            width,
            height,
            budget_bytes=budget_bytes,
            parallel=self.device.cores,
            band_rows=self._settings.band_rows if self.device.kind == "cpu" else None,
        )
        return (
            plan if seconds_per_pixel is None else with_measured_steps(plan, seconds_per_pixel, budget_bytes)
        )

    def _chosen(self, variant: Variant) -> tuple[Spec, EngineDevice]:
        spec = self._catalogue.resolve(variant.model)
        return spec, device_for(spec, self.engine_device, variant.backend)

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

    async def _keep(self, worker: WorkerProcess | None) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                if worker is not None:
                    began = time.monotonic()
                    await self._warm_late(worker)
                    await worker.lost.wait()
                    await worker.end()
                    # One that has done something ended for a reason that the next need not meet.
                    if worker.steps_answered or time.monotonic() - began > _HEALTHY_AFTER_SECONDS:
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

    async def _warm_late(self, worker: WorkerProcess) -> None:
        """Try again what could not be made ready when the worker started, until it is or the worker ends."""
        pause = FIRST_WARM_PAUSE_SECONDS
        while not self.warm:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await worker.lost.wait()
                return
            pause = min(LONGEST_WARM_PAUSE_SECONDS, pause * 2)
            try:
                missing = await self.models.warm(worker, list(map(Variant, self._settings.warm_names)))
            except WorkerLost:
                return
            except Exception:  # whatever it is, the worker is kept
                log.exception("the models of %s could not be made ready", self.device.name)
                continue
            if not missing:
                self.warm = True
                self._on_change(self)

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
        worker = WorkerProcess(self.device.name, self._options, lambda: self._gone(worker), self.counts)
        began = time.monotonic()
        said = await worker.start()
        await self._require_alive(worker)
        self._engine_device = EngineDevice(**said["device"])
        try:
            async with asyncio.timeout(self._settings.load_limit_seconds):
                missing = await self.models.begin(worker, self._settings.warm_names)
        except TimeoutError:
            await worker.end()
            raise Unavailable(f"the models of {self.device.name} could not be made ready in time") from None
        except BaseException:  # a cancellation too
            await worker.end()
            raise
        await self._require_alive(worker)
        self.failed_starts = 0
        self.worker = worker
        self.warm = self.warm or not missing
        self._up.set()
        log.info(
            "worker %s (pid %d) is up after %.2f s", self.device.name, worker.pid, time.monotonic() - began
        )
        self._on_change(self)
        return worker

    async def _require_alive(self, worker: WorkerProcess) -> None:
        """It may have been lost in the moment between its answer and now. Raises `Unavailable`."""
        if worker.lost.is_set():
            await worker.end()
            raise Unavailable(f"the worker for {self.device.name} ended as soon as it had started")

    def _gone(self, worker: WorkerProcess) -> None:
        if self.worker is worker:
            self.worker = None
            self._up.clear()
            self._on_change(self)


# For glibc. Blocks of bands come and go hundreds of times for an image: from the heap they cost nothing, but
# one that is mapped anew is filled page by page, which took a twelfth of a worker's time. Larger blocks come
# in sizes that differ little; kept in the heap they leave holes that add up to hundreds of megabytes.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}


def _environment(device: Device) -> dict[str, str]:
    """What a worker's environment has beyond the server's: a CUDA worker sees its own card only."""
    if device.kind == "cpu":
        kept = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
        return {"CUDA_VISIBLE_DEVICES": "", **kept}
    index = int(device.name.partition(":")[2])
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return {"CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) else str(index)}
