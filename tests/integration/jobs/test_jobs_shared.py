"""Several servers that share their jobs: each takes any call, and what one gives up another goes on with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_bench import ANNA, Bench, Images, open_bench, until, wanted

from upscaled_server.errors import QuotaExceeded
from upscaled_server.jobs.following import JobEvent
from upscaled_server.jobs.ids import first_id_at
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.places import input_path
from upscaled_server.jobs.records import job_key
from upscaled_server.pipeline.events import Progress
from upscaled_server.pipeline.request import Request, TileOptions
from upscaled_server.state import requests
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.work.queue import WorkQueue


class Gate:
    """Every image waits in the middle of its work until `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def wait(self, _request: Request, _attempt: int) -> None:
        await self.open.wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def pair(tmp_path: Path, cluster: ClusterSettings, gate: Gate) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two servers; the first takes no work, so that the second has it all."""
    async with AsyncExitStack() as stack:
        idle = await stack.enter_async_context(open_bench(tmp_path, cluster=cluster, start=False))
        working = await stack.enter_async_context(
            open_bench(tmp_path, cluster=cluster, images=Images(gate.wait))
        )
        yield idle, working


async def test_a_job_made_here_is_worked_on_there_and_followed_from_here(
    pair: tuple[Bench, Bench], gate: Gate
) -> None:
    idle, working = pair
    job = await idle.jobs.create(wanted())
    seen: list[JobEvent] = []
    async with asyncio.timeout(30), aclosing(idle.jobs.watch(ANNA, job.id, 0)) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event.what, Progress):
                gate.open.set()
    assert [event.what.state for event in seen if isinstance(event.what, Job)] == [
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    numbers = [event.number for event in seen]
    assert numbers == sorted(set(numbers))
    assert working.images.began == [job.id]
    done = (await idle.jobs.get(ANNA, job.id)).job
    assert await idle.output_of(done) == b"an image"


async def test_how_far_a_job_is_can_be_asked_of_any_server(pair: tuple[Bench, Bench], gate: Gate) -> None:
    idle, _ = pair
    job = await idle.jobs.create(wanted())

    async def tells_progress() -> bool:
        found = await idle.jobs.get(ANNA, job.id)
        return found.progress is not None and found.progress.stage == "infer"

    await until(tells_progress)
    gate.open.set()
    assert (await idle.jobs.ended(ANNA, job.id, 20)).job.state is State.SUCCEEDED


async def test_tiles_made_there_are_read_here_while_the_job_runs(
    pair: tuple[Bench, Bench], gate: Gate
) -> None:
    idle, _ = pair
    job = await idle.jobs.create(wanted(b"abcd", tiles=TileOptions(size=64)))
    async with asyncio.timeout(30), aclosing(idle.jobs.tiles(ANNA, job.id, None)) as tiles:
        first, second = await anext(tiles), await anext(tiles)
        assert (first.data, second.data) == (b"ab", b"cd")
        gate.open.set()
        assert [tile async for tile in tiles] == []


async def test_a_job_is_cancelled_from_a_server_that_does_not_work_on_it(pair: tuple[Bench, Bench]) -> None:
    idle, working = pair
    job = await idle.jobs.create(wanted())
    await until(lambda: working.images.has_begun(1))
    await idle.jobs.cancel(ANNA, job.id)
    assert (await idle.jobs.ended(ANNA, job.id, 20)).job.state is State.CANCELLED
    await working.settled()
    assert working.left_over() == []


async def test_the_same_request_at_two_servers_at_once_is_one_job(
    pair: tuple[Bench, Bench], gate: Gate
) -> None:
    idle, working = pair
    gate.open.set()
    asked = [bench.jobs.create(wanted(request_id="one")) for bench in (idle, working) * 5]
    jobs = await asyncio.gather(*asked)
    assert len({job.id for job in jobs}) == 1
    await idle.jobs.ended(ANNA, jobs[0].id, 20)
    await working.settled()
    assert working.images.began == [jobs[0].id]


async def test_what_one_server_took_counts_at_the_other(tmp_path: Path, cluster: ClusterSettings) -> None:
    async with (
        open_bench(tmp_path, cluster=cluster, start=False) as one,
        open_bench(
            tmp_path, cluster=cluster, images=Images(Gate().wait), max_queued_jobs_per_caller=3
        ) as other,
    ):
        for _ in range(3):
            await one.jobs.create(wanted())

        async def is_known() -> bool:
            try:
                await other.jobs.create(wanted())
            except QuotaExceeded:
                return True
            return False

        await until(is_known)


async def test_a_server_that_stops_leaves_its_jobs_to_the_others(
    tmp_path: Path, cluster: ClusterSettings
) -> None:
    async with AsyncExitStack() as later:
        async with open_bench(tmp_path, cluster=cluster, images=Images(Gate().wait)) as first:
            jobs = [await first.jobs.create(wanted(str(n).encode())) for n in range(6)]
            await until(lambda: first.images.has_begun(1))
            other = await later.enter_async_context(open_bench(tmp_path, cluster=cluster))
        for job in jobs:
            done = (await other.jobs.ended(ANNA, job.id, 30)).job
            assert (done.state, done.restarts) == (State.SUCCEEDED, 0)
        await other.settled()


async def test_an_attempt_that_was_overtaken_changes_nothing_any_more(
    pair: tuple[Bench, Bench], gate: Gate
) -> None:
    """As after a pause of the whole machine: another server has begun anew meanwhile."""
    idle, working = pair
    job = await idle.jobs.create(wanted())
    await until(lambda: working.images.has_begun(1))
    store = working.book.store
    with store.watch(job_key("anna", job.id)):
        overtaken = await idle.book.change(
            "anna", job.id, lambda each: replace(each.put_back(5.0), restarts=1).begun(6.0)
        )
    assert overtaken.attempts == 2
    gate.open.set()

    async def has_given_up() -> bool:
        return working.jobs.running == 0

    await until(has_given_up)
    assert (await idle.book.get("anna", job.id)).state is not State.FAILED


async def test_jobs_of_a_killed_server_run_again_elsewhere(tmp_path: Path, cluster: ClusterSettings) -> None:
    """Killed is a server that takes nothing and says nothing any more: its lease ends."""
    cluster = cluster.model_copy(update={"cluster_lease_seconds": 2.0})
    gate = Gate()
    async with open_bench(tmp_path, cluster=cluster, images=Images(gate.wait)) as dead:
        job = await dead.jobs.create(wanted())
        await until(lambda: dead.images.has_begun(1))
        for task in asyncio.all_tasks():
            if task.get_name().startswith(("nats lease", "turn of job", "jobs ")):
                task.cancel()
        async with open_bench(tmp_path, cluster=cluster) as other:
            done = (await other.jobs.ended(ANNA, job.id, 60)).job
            assert (done.state, done.attempts, done.restarts) == (State.SUCCEEDED, 2, 1)
            assert await other.output_of(done) == b"an image"


async def test_a_job_that_is_taken_up_again_and_again_without_an_end_fails(
    tmp_path: Path, cluster: ClusterSettings
) -> None:
    cluster = cluster.model_copy(update={"cluster_max_deliveries": 3})
    async with open_bench(tmp_path, cluster=cluster, start=False) as bench:
        job = await bench.jobs.create(wanted())
        work = await WorkQueue.open(cluster, max_deliveries=3)
        for _ in range(3):
            async with asyncio.timeout(30):
                lease = await work.take()
            assert lease is not None
            assert lease.item.id == job.id
            await lease.again(0)
        await work.aclose()
    async with open_bench(tmp_path, cluster=cluster) as bench:
        failed = (await bench.jobs.ended(ANNA, job.id, 30)).job
        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert "too often" in failed.failure.message
        assert bench.images.began == []
        await bench.settled()


async def test_what_a_killed_server_never_acknowledged_goes(tmp_path: Path, cluster: ClusterSettings) -> None:
    async with open_bench(tmp_path, cluster=cluster, start=False) as bench:
        made = await bench.jobs.create(wanted(request_id="kept"))
        an_hour_ago = first_id_at(time.time() - 3600)
        begun = replace(made, id=an_hour_ago, request_id="left")
        await bench.book.mark_live(begun)
        await requests.claim(
            bench.book.store, "anna", "left", kind="job", payload_sha256="x", new_id=begun.id
        )
        await bench.blobs.put(input_path(begun.id), b"an image")
    async with open_bench(tmp_path, cluster=cluster) as bench:
        assert (await bench.jobs.ended(ANNA, made.id, 30)).job.state is State.SUCCEEDED
        await bench.settled()
        assert bench.left_over() == []
        assert await bench.book.find_live("anna", begun.id) is None
        assert len(await bench.book.store.range("requests/anna")) == 1
