"""Wires what watches the server: metrics asked of the parts, and the port that serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upscaled._version import __version__
from upscaled_server.durable import Durable, Stores
from upscaled_server.errors import FailedPrecondition
from upscaled_server.pool.pool import Pool
from upscaled_server.telemetry import metrics
from upscaled_server.telemetry.probes import Probes, ProbeSettings


@contextmanager
def observed(
    settings: ProbeSettings, pool: Pool, stores: Stores, durable: Durable, is_ready: Callable[[], bool]
) -> Iterator[None]:
    """Serve metrics and probes while the context lasts, if a port is named. In a running event loop. Raises
    `FailedPrecondition` if the port cannot be had."""
    metrics.BUILD.info({"version": __version__})
    collector = metrics.SnapshotCollector(lambda: _values(pool, stores, durable))
    metrics.REGISTRY.register(collector)
    probes = None
    try:
        if settings.metrics_listen:
            probes = _open(settings.metrics_listen, is_ready)
        yield
    finally:
        if probes is not None:
            probes.close()
        metrics.REGISTRY.unregister(collector)


def _open(listen: str, is_ready: Callable[[], bool]) -> Probes:
    try:
        return Probes(listen, metrics.REGISTRY, is_ready, asyncio.get_running_loop())
    except OSError as error:
        raise FailedPrecondition(
            f"UPSCALED_METRICS_LISTEN: cannot listen on {listen}: {error.strerror}", listen=listen
        ) from None


def _values(pool: Pool, stores: Stores, durable: Durable) -> metrics.Values:
    stats, jobs, told = pool.stats, durable.jobs, durable.callbacks.counts
    janitor = jobs.janitor.counts
    return {
        "upscaled_queue_units": stats.waiting_steps,
        "upscaled_queue_device_seconds": stats.seconds_pending,
        "upscaled_images_open": stats.open_runs,
        "upscaled_images_waiting": stats.waiting_runs,
        "upscaled_device_ready": {device.name: float(pool.is_up(device)) for device in pool.devices},
        "upscaled_worker_restarts": stats.worker_restarts,
        "upscaled_jobs": {"queued": jobs.queued, "running": jobs.running},
        "upscaled_expired": {"job": 0, "in": 0, "out": 0, **janitor.deleted},
        "upscaled_janitor_failures": janitor.failed,
        "upscaled_janitor_late_seconds": janitor.late_seconds,
        "upscaled_callbacks": {
            "delivered": told.delivered,
            "failed": told.failed,
            "given_up": told.given_up,
        },
        "upscaled_callbacks_pending": durable.callbacks.pending,
        "upscaled_stored_bytes": stores.blobs.used_bytes,
    }
