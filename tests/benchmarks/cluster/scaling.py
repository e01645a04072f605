"""Whole servers on simulated devices: how much more several get done than one, and what a job costs the
processors around the devices."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.telemetry import cpu_seconds
from tests.cluster.traffic import PATIENT, Traffic
from tests.cluster.whole import STATE_STREAM, Cluster, cluster
from upscaled import AsyncClient, AsyncJob

# Makes the networks of workers take a fixed time; found by the interpreter in its path as it starts.
_SIMULATED = Path(__file__).parents[1] / "simulated_device"
_CALLER = "bench"


def measure(replicas: int, device_seconds: float, jobs: int) -> dict[str, Any]:
    """Jobs per second of the whole, with more of them waiting than can be worked on."""
    path = f"{_SIMULATED}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(
            Path(folder),
            replicas=replicas,
            callers=[_CALLER],
            PYTHONPATH=path,
            SIMULATED_SECONDS=str(device_seconds),
        ) as made,
    ):
        return asyncio.run(_measure(made, made.keys[_CALLER], jobs, device_seconds))


async def _measure(made: Cluster, key: str, jobs: int, device_seconds: float) -> dict[str, Any]:
    replicas = len(made.replicas)
    async with AsyncClient(made.address, api_key=key, retries=PATIENT) as client:
        warm = Traffic(client)
        await warm.create(range(100_000, 100_000 + 4 * replicas))
        await warm.finish()
        before, requests = _cpu(made), _requests(made)
        state, began = await made.state_of(STATE_STREAM), time.monotonic()
        traffic = Traffic(client)
        await traffic.create(range(jobs))
        await traffic.finish()
        seconds, after = time.monotonic() - began, _cpu(made)
        kept, requests = await made.state_of(STATE_STREAM), _requests(made) - requests
        times = [_times_of(job) async for job in client.jobs.list() if _number(job) < jobs]
    wrong = [each.error for each in traffic.outcomes.values() if not each.sha256]
    if wrong or len(times) != jobs:
        raise RuntimeError(f"{len(wrong)} of {jobs} jobs failed, such as: {wrong[:1]}")
    # From the first that begins to the last that ends: what is not shared well at the end counts too.
    rate = jobs / (max(end for _, end in times) - min(start for start, _ in times))
    return {
        "replicas": replicas,
        "jobs": jobs,
        "jobs_per_second": round(rate, 3),
        "share_of_the_devices_used": round(rate * device_seconds / replicas, 4),
        "cpu_ms_per_job": {
            name: round((after[name] - before[name]) / jobs * 1e3, 1) for name in sorted(before)
        },
        "changes_of_state_per_job": round((kept.last_seq - state.last_seq) / jobs, 1),
        "entries_kept_per_job": round((kept.messages - state.messages) / jobs, 1),
        "bytes_of_state_kept_per_job": round((kept.bytes - state.bytes) / jobs),
        "requests_to_s3_per_job": round(requests / jobs, 1),
        "attempts_beyond_the_first": traffic.repeated,
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": round(seconds, 1),
    }


def _cpu(made: Cluster) -> Mapping[str, float]:
    """Processor seconds of all processes of a kind."""
    servers = [cpu_seconds(replica.pid) for replica in made.replicas]
    return {
        "servers": sum(each["server"] for each in servers),
        "their_workers_and_codecs": sum(each["all"] - each["server"] for each in servers),
        "nats_nodes": sum(cpu_seconds(node.pid)["server"] for node in made.nodes.values()),
    }


def _requests(made: Cluster) -> int:
    return (made.folder / "moto.log").read_text(errors="replace").count(" HTTP/1.1")


def _number(job: AsyncJob) -> int:
    return int(job.labels["number"])


def _times_of(job: AsyncJob) -> tuple[float, float]:
    """When it began and when it ended."""
    assert job.start_time is not None
    assert job.end_time is not None
    return job.start_time.timestamp(), job.end_time.timestamp()
