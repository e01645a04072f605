"""Wires what watches the server: metrics asked of the parts, and the port that serves them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upscaled._version import __version__
from upscaled_server.api.certificate import CertificateExpiry
from upscaled_server.durable import Durable, Stores
from upscaled_server.engine.catalogue import MODELS
from upscaled_server.errors import DomainError, FailedPrecondition
from upscaled_server.jobs.job import State
from upscaled_server.media.codec import CodecHost
from upscaled_server.media.codec.resident import resident_bytes_of_one
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.stats import DeviceStats
from upscaled_server.telemetry import metrics
from upscaled_server.telemetry.probes import Probes, ProbeSettings


@dataclass(frozen=True, slots=True)
class Observed:
    """The parts that are asked. `certificate` is the file of the port's certificate, None without TLS."""

    pool: Pool
    codec: CodecHost
    stores: Stores
    durable: Durable
    data_dir: Path
    certificate: Path | None
    is_ready: Callable[[], bool]


@contextmanager
def observed(settings: ProbeSettings, parts: Observed) -> Iterator[None]:
    """Serve metrics and probes while the context lasts, if a port is named. In a running event loop. Raises
    `FailedPrecondition` if the port cannot be had."""
    metrics.begin(
        __version__,
        models=[spec.name for spec in MODELS],
        reasons=sorted(_reasons(DomainError)),
        ended_states=[state.value for state in State if state.final],
    )
    if not settings.metrics_listen:
        yield
        return
    probes = _open(settings.metrics_listen, Snapshot(parts), parts.is_ready)
    try:
        yield
    finally:
        probes.close()


def _open(listen: str, snapshot: Callable[[], metrics.Values], is_ready: Callable[[], bool]) -> Probes:
    try:
        return Probes(listen, snapshot, is_ready, asyncio.get_running_loop())
    except OSError as error:
        raise FailedPrecondition(
            f"UPSCALED_METRICS_LISTEN: cannot listen on {listen}: {error.strerror}", listen=listen
        ) from None


class Snapshot:
    """What is so now, by the names of `metrics.SNAPSHOT`. To be asked on the event loop."""

    def __init__(self, parts: Observed) -> None:
        self._parts = parts
        self._expiry = None if parts.certificate is None else CertificateExpiry(parts.certificate)

    def __call__(self) -> metrics.Values:
        devices = self._parts.pool.device_stats
        return {**self._queues(), **_devices(devices), **self._jobs(), **self._files(), **self._own(devices)}

    def _queues(self) -> metrics.Values:
        stats = self._parts.pool.stats
        return {
            "upscaled_queue_units": {name: each.units for name, each in stats.queues.items()},
            "upscaled_queue_pixels": {name: each.pixels for name, each in stats.queues.items()},
            "upscaled_queue_device_seconds": {
                name: each.device_seconds for name, each in stats.queues.items()
            },
            "upscaled_queue_oldest_seconds": {
                name: each.oldest_seconds for name, each in stats.queues.items()
            },
            "upscaled_queue_limit_device_seconds": stats.limit_device_seconds,
            "upscaled_images_open": stats.open_runs,
            "upscaled_images_waiting": stats.waiting_runs,
        }

    def _jobs(self) -> metrics.Values:
        jobs, told = self._parts.durable.jobs, self._parts.durable.callbacks.counts
        janitor = jobs.janitor.counts
        return {
            "upscaled_jobs": {"queued": jobs.queued, "running": jobs.running},
            "upscaled_expired": {"job": 0, "in": 0, "out": 0, **janitor.deleted},
            "upscaled_janitor_failures": janitor.failed,
            "upscaled_janitor_late_seconds": janitor.late_seconds,
            "upscaled_callbacks": {
                "delivered": told.delivered,
                "failed": told.failed,
                "given_up": told.given_up,
            },
            "upscaled_callbacks_pending": self._parts.durable.callbacks.pending,
        }

    def _files(self) -> metrics.Values:
        blobs, disk = self._parts.stores.blobs, os.statvfs(self._parts.data_dir)
        return {
            "upscaled_stored_bytes": blobs.used_bytes,
            "upscaled_stored_limit_bytes": blobs.max_bytes,
            "upscaled_data_free_bytes": disk.f_bavail * disk.f_frsize,
            "upscaled_certificate_expiry_timestamp_seconds": None
            if self._expiry is None
            else self._expiry.timestamp(),
        }

    def _own(self, devices: Mapping[str, DeviceStats]) -> metrics.Values:
        codec, workers = self._parts.codec, [each.counts for each in devices.values()]
        return {
            "upscaled_process_resident_bytes": {
                "server": resident_bytes_of_one(os.getpid()),
                "worker": sum(each.resident_bytes for each in workers),
                "codec": codec.resident_bytes,
            },
            "upscaled_process_cpu_seconds": {
                "server": time.process_time(),
                "worker": sum(each.cpu_seconds for each in workers),
                "codec": codec.cpu_seconds,
            },
        }


def _devices(devices: Mapping[str, DeviceStats]) -> metrics.Values:
    def each(value: Callable[[DeviceStats], float]) -> dict[str, float]:
        return {name: value(device) for name, device in devices.items()}

    return {
        "upscaled_device_ready": each(lambda device: float(device.ready)),
        "upscaled_device_busy_seconds": each(lambda device: device.counts.busy_seconds),
        "upscaled_device_memory_bytes": each(lambda device: device.counts.memory_bytes),
        "upscaled_device_memory_limit_bytes": each(lambda device: device.memory_limit_bytes),
        "upscaled_device_pixels": each(lambda device: device.counts.pixels),
        "upscaled_device_worker_restarts": each(lambda device: device.worker_restarts),
        "upscaled_device_out_of_memory": each(lambda device: device.counts.out_of_memory),
        "upscaled_device_nan_fallbacks": each(lambda device: device.counts.nan_fallbacks),
        "upscaled_models_loaded": each(lambda device: device.models_loaded),
    }


def _reasons(kind: type[DomainError]) -> set[str]:
    """Of an error and of all that are derived from it."""
    return {kind.reason}.union(*map(_reasons, kind.__subclasses__()))
