"""The workers of all devices: found, started together, ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.weights.store import StoreOptions
from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.pool.devices import Device, find_devices
from upscaled_server.pool.factory import engine_config
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.supervisor import Supervisor

log = logging.getLogger("upscaled_server.pool")


class Fleet:
    """One supervisor per device, in the order of the devices; none before `start`.

    `on_change(supervisor)` is called when a device's worker is there and when it is gone, for the first time
    while `start` runs.
    """

    def __init__(
        self,
        settings: PoolSettings,
        weights: StoreOptions,
        engine: str,
        catalogue: Catalogue,
        on_change: Callable[[Supervisor], None],
    ) -> None:
        self._settings = settings
        self._weights = weights
        self._engine = engine
        self._catalogue = catalogue
        self._on_change = on_change
        self.supervisors: dict[str, Supervisor] = {}

    def __iter__(self) -> Iterator[Supervisor]:
        """Every device's. Raises `Unavailable` before `start`."""
        if not self.supervisors:
            raise Unavailable("the pool has not been started")
        return iter(self.supervisors.values())

    def of(self, device: str | None) -> Supervisor:
        """The device's; of None the first. Raises `FailedPrecondition` for one that is not there."""
        first = next(iter(self))
        if device is None:
            return first
        try:
            return self.supervisors[device]
        except KeyError:
            raise FailedPrecondition(f"there is no device {device}") from None

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(each.device for each in self.supervisors.values())

    async def start(self, prepare: Callable[[tuple[Device, ...]], None]) -> None:
        """Find the devices, `prepare` for them, and start a worker on each; returns when all have answered.

        With devices `auto`, cards that cannot be used (a torch without CUDA, say) are left for the CPU, with
        a warning. Raises `FailedPrecondition` for devices that are named and cannot be used, `Unavailable`
        for workers that do not start.
        """
        devices = await asyncio.to_thread(find_devices, self._settings)
        try:
            await self._start_on(devices, prepare)
        except FailedPrecondition as error:
            if self._settings.devices != "auto" or devices[0].kind == "cpu":
                raise
            log.warning("the CUDA devices cannot be used, so the CPU is: %s", error.message)
            cpu = self._settings.model_copy(update={"devices": "cpu"})
            await self._start_on(find_devices(cpu), prepare)

    async def _start_on(
        self, devices: tuple[Device, ...], prepare: Callable[[tuple[Device, ...]], None]
    ) -> None:
        prepare(devices)
        self.supervisors = {device.name: self._supervisor(device) for device in devices}
        starting = [asyncio.create_task(each.start()) for each in self.supervisors.values()]
        try:
            await asyncio.gather(*starting)
        except BaseException:  # a cancellation too
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.aclose()
            raise

    def _supervisor(self, device: Device) -> Supervisor:
        config = engine_config(device, self._weights)
        return Supervisor(device, self._settings, self._engine, config, self._on_change, self._catalogue)

    async def aclose(self) -> None:
        """End every worker, and start no more."""
        await asyncio.gather(*(each.aclose() for each in self.supervisors.values()))
