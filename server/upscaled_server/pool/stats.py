"""What the pool is doing now, and what its devices have done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from upscaled_server.pool.transport import Message
from upscaled_server.telemetry import metrics


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Work of one class, of all devices together. `device_seconds` and `pixels` (of the input) are of all
    that is admitted and not done, `oldest_seconds` is of what waits."""

    units: int = 0
    pixels: float = 0.0
    device_seconds: float = 0.0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What the pool is doing now, for logs and metrics."""

    open_runs: int
    waiting_runs: int
    waiting_steps: int
    seconds_pending: float
    workers_up: int
    worker_restarts: int
    queues: Mapping[str, QueueStats]
    """By class: interactive and batch."""
    limit_device_seconds: float
    """Device seconds of other work before which more is refused."""


@dataclass(slots=True)
class DeviceCounts:
    """What a device has done since the server's start, over the lifetimes of its workers, as they told it."""

    busy_seconds: float = 0.0
    pixels: float = 0.0
    out_of_memory: int = 0
    nan_fallbacks: int = 0
    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    memory_bytes: int = 0
    _worker_cpu_seconds: float = field(default=0.0, repr=False)

    def take(self, told: Message) -> None:
        """What came beside an answer, see `protocol.py`."""
        self.busy_seconds += told.get("seconds", 0.0)
        self.pixels += told.get("pixels", 0)
        self.out_of_memory += told.get("out_of_memory", 0)
        self.nan_fallbacks += told.get("nan_fallbacks", 0)
        if images := told.get("images"):
            metrics.BATCH_SIZES.observe(images)
        if "load_seconds" in told:
            metrics.MODEL_LOADS.labels(metrics.MODELS(told["model"])).observe(told["load_seconds"])
        if "cpu_seconds" in told:
            self.cpu_seconds += told["cpu_seconds"] - self._worker_cpu_seconds
            self._worker_cpu_seconds = told["cpu_seconds"]
            self.resident_bytes, self.memory_bytes = told["resident_bytes"], told["memory_bytes"]

    def lost_worker(self) -> None:
        """The next one begins with nothing."""
        self._worker_cpu_seconds = 0.0
        self.resident_bytes = self.memory_bytes = 0


@dataclass(frozen=True, slots=True)
class DeviceStats:
    """A device now. `counts` goes on counting."""

    ready: bool
    worker_restarts: int
    models_loaded: int
    memory_limit_bytes: int
    counts: DeviceCounts
