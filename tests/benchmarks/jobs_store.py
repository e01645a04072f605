"""What a store full of finished jobs costs: GetJob, pages of ListJobs, and the start of a server.

python -m tests.benchmarks.jobs_store [--jobs 100000] [--samples 1000] [--out bench-results/jobs_store.json]

The baseline is the same with 100 jobs in the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks.processes import measured_server
from upscaled.v1 import jobs_pb2, jobs_pb2_grpc
from upscaled_server.access.caller import ANONYMOUS, Priority
from upscaled_server.api.job_translate import JobMessages
from upscaled_server.jobs import ids
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.following import Following
from upscaled_server.jobs.job import InputSummary, Job, JobSource, Origin, State
from upscaled_server.jobs.listing import Filters, Listing
from upscaled_server.jobs.local_board import LocalBoard
from upscaled_server.jobs.places import Files
from upscaled_server.jobs.records import job_key, job_value
from upscaled_server.pipeline.events import Done, Plan, Provenance, Stage
from upscaled_server.pipeline.request import Options
from upscaled_server.shared_state import DATABASE
from upscaled_server.state.expiry import Expiry
from upscaled_server.state.sqlite import SqliteStore, _checksum
from upscaled_server.state.ulid import first_ulid

_WARM_UP = 50
_PLAN = Plan(512, 512, 2048, 2048, 8, 3, "image/png", "a.png", 0, 0, 0, 0.1, 1.5, 0, 13_000_000)
_SETTINGS = Options(model="real-esrgan-x4-plus", labels={"order": "0", "shop": "north"})
_DONE = Done(
    plan=_PLAN,
    settings=_SETTINGS,
    seconds=dict.fromkeys(Stage, 0.25),
    total_seconds=1.5,
    provenance=Provenance("real-esrgan-x4-plus", "ncnn", "fp32", "cpu", "00" * 32, "package", "[{}]"),
    size_bytes=6_000_000,
    sha256="ab" * 32,
)


def finished_job(number: int, began: float) -> Job:
    """One of the past day; every hundredth failed."""
    job_id = first_ulid(round((began + number) * 1000))[:16] + ids.new_id()[16:]
    job = Job(
        id=job_id,
        caller=ANONYMOUS.name,
        source=JobSource(Origin.INLINE),
        options=replace(_SETTINGS, labels={"order": str(number), "shop": "north"}),
        priority=Priority.BATCH,
        created=ids.time_of(job_id),
        retention=7 * 24 * 3600.0,
        input=InputSummary(300_000, "cd" * 32),
        plan=_PLAN,
    ).recorded()
    state = State.FAILED if number % 100 == 0 else State.SUCCEEDED
    ended = job.begun(job.created + 1).ended_as(state, job.created + 2)
    return replace(ended, done=_DONE, output_id=job_id) if state is State.SUCCEEDED else ended


async def fill(path: Path, count: int) -> list[str]:
    """A database that holds so many finished jobs; their ids, the oldest first."""
    await (await SqliteStore.open(path)).aclose()
    began = time.time() - count - 10
    made = []
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(count):
            job = finished_job(number, began)
            made.append(job.id)
            due = Expiry(round((job.expires or 0.0) * 1000), "job", job.caller, job.id)
            for key, value in ((job_key(job.caller, job.id), job_value(job)), (due.key, b"")):
                connection.execute(
                    "INSERT INTO entries (key, value, version, checksum) VALUES (?, ?, 1, ?)",
                    (key, value, _checksum(key, value, 1)),
                )
        connection.execute("UPDATE counter SET version = 1")
    return made


async def _median(call: Callable[[], Awaitable[object]], samples: int) -> dict[str, float]:
    seconds = []
    for _ in range(samples + _WARM_UP):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    kept = sorted(seconds[_WARM_UP:])
    return {"p50_ms": statistics.median(kept) * 1e3, "p99_ms": kept[int(len(kept) * 0.99)] * 1e3}


async def measure_store(path: Path, made: list[str], samples: int) -> dict[str, dict[str, float]]:
    """The server's own time for an answer: reading, translating and serialising, without the network."""
    store = await SqliteStore.open(path)
    files = Files(blobs=None)  # type: ignore[arg-type] - finished jobs are read without it
    following, listing = Following(Book(store), LocalBoard(), files), Listing(store)
    messages = JobMessages(lambda _id, until: ("https://images.example.com/x", until), "1.0.0")
    caller = ANONYMOUS.name

    async def get() -> object:
        return messages.job(await following.now(caller, random.choice(made))).SerializeToString()

    async def page(filters: Filters) -> object:
        found = await listing.page(caller, filters, size=50, token="")
        shown = [messages.job(following.shown(job)) for job in found.jobs]
        return jobs_pb2.ListJobsResponse(jobs=shown).SerializeToString()

    middle = ids.time_of(made[len(made) // 2])
    try:
        return {
            "get_job": await _median(get, samples),
            "list_newest": await _median(lambda: page(Filters()), samples // 5),
            "list_before_a_time": await _median(lambda: page(Filters(before=middle)), samples // 5),
            "list_one_state_in_100": await _median(
                lambda: page(Filters(states=frozenset({State.FAILED}))), samples // 20
            ),
            "list_a_label_nobody_has": await _median(
                lambda: page(Filters(labels=(("order", "none"),))), samples // 20
            ),
        }
    finally:
        await store.aclose()


def measure_start(folder: Path, made: list[str], samples: int) -> dict[str, float]:
    """Process start to SERVING, and GetJob over the network."""
    starts = []
    for _ in range(3):
        with (
            measured_server(UPSCALED_DATA_DIR=str(folder), UPSCALED_DEVICES="cpu") as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            starts.append(server.start_seconds)
            stub = jobs_pb2_grpc.JobsStub(channel)
            seconds = []
            for _ in range(samples // 3 + _WARM_UP):
                began = time.perf_counter()
                stub.GetJob(jobs_pb2.GetJobRequest(job_id=random.choice(made)))
                seconds.append(time.perf_counter() - began)
    return {
        "start_seconds": statistics.median(starts),
        "call_p50_ms": statistics.median(seconds[_WARM_UP:]) * 1e3,
    }


def measure(count: int, samples: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="upscaled-jobs-") as name:
        folder = Path(name)
        path = folder / DATABASE
        began = time.monotonic()
        made = asyncio.run(fill(path, count))
        filled = time.monotonic() - began
        found: dict[str, Any] = {"jobs": count, "fill_seconds": filled, "bytes": path.stat().st_size}
        return found | asyncio.run(measure_store(path, made, samples)) | measure_start(folder, made, samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("bench-results/jobs_store.json"))
    options = parser.parse_args()
    few, many = measure(100, options.samples), measure(options.jobs, options.samples)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"baseline": few, "full": many}, indent=1) + "\n")
    for name, value in many.items():
        if isinstance(value, dict):
            ratio = value["p50_ms"] / few[name]["p50_ms"]
            print(
                f"{name}: p50 {value['p50_ms']:.3f} ms, p99 {value['p99_ms']:.3f} ms; "
                f"{ratio:.2f} times that with 100 jobs"
            )
    print(
        f"start with {many['jobs']} finished jobs: {many['start_seconds']:.2f} s, "
        f"with 100: {few['start_seconds']:.2f} s; GetJob over the network p50 {many['call_p50_ms']:.2f} ms"
    )


if __name__ == "__main__":
    main()
