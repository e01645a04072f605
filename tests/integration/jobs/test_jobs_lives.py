"""Jobs over the ends of processes: of the server, orderly and not, and of workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import jobs_bench
import pytest
from jobs_bench import ANNA, Images, OpenBench, until, wanted

from upscaled_server.access.caller import ANONYMOUS, Priority
from upscaled_server.errors import Overloaded, ProcessingFailed, Unavailable, WorkerLost
from upscaled_server.jobs import ids
from upscaled_server.jobs.job import Job, JobSource, Origin, State
from upscaled_server.jobs.places import input_path
from upscaled_server.pipeline.request import Options, Request
from upscaled_server.state import requests


async def _held(_request: Request, _attempt: int) -> None:
    await asyncio.sleep(3600)


async def test_stopping_puts_running_jobs_back_and_the_next_start_runs_them(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, images=Images(_held), max_running_jobs=2) as bench:
        made = [await bench.jobs.create(wanted(b"%d" % number)) for number in range(4)]
        await until(lambda: bench.images.has_begun(2))
        await bench.jobs.stop()
        stored = [await bench.book.get("anna", job.id) for job in made]
        assert {job.state for job in stored} == {State.QUEUED}
        assert sorted(job.attempts for job in stored) == [0, 0, 1, 1]
    async with open_bench(tmp_path) as bench:
        for number, job in enumerate(made):
            done = (await bench.jobs.ended(ANNA, job.id, 20)).job
            assert done.state is State.SUCCEEDED
            assert await bench.output_of(done) == b"%d" % number
            assert done.restarts == 0
        await bench.settled()
        assert bench.left_over() == []


async def test_what_was_running_when_the_server_died_runs_again(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path, start=False) as bench:
        job = await bench.jobs.create(wanted())
        await bench.book.change("anna", job.id, lambda each: each.begun(5.0))
    async with jobs_bench.open_bench(tmp_path) as bench:
        done = (await bench.jobs.ended(ANNA, job.id, 20)).job
        assert (done.state, done.attempts, done.restarts) == (State.SUCCEEDED, 2, 1)
        states = [change.state for change in done.changes]
        assert states == [State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING, State.SUCCEEDED]


async def test_a_job_that_is_running_at_every_end_of_the_server_is_given_up(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path, start=False) as bench:
        job = await bench.jobs.create(wanted())
    for _ in range(3):
        async with jobs_bench.open_bench(tmp_path, start=False, max_job_restarts=3) as bench:
            await bench.book.change("anna", job.id, lambda each: each.begun(5.0))
        async with jobs_bench.open_bench(tmp_path, images=Images(_held), max_job_restarts=3) as bench:
            failed = await bench.book.get("anna", job.id)
    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert "3 times" in failed.failure.message


async def test_work_that_ends_workers_twice_is_given_up(open_bench: OpenBench, tmp_path: Path) -> None:
    def lose(_request: Request, _attempt: int) -> None:
        raise WorkerLost("the worker ended")

    async with open_bench(tmp_path, images=Images(lose)) as bench:
        job = await bench.jobs.create(wanted())
        failed = (await bench.jobs.ended(ANNA, job.id, 20)).job
        assert (failed.state, failed.attempts) == (State.FAILED, 2)
        assert failed.failure is not None
        assert "ended 2 worker processes" in failed.failure.message
        assert failed.output_id == ""
        assert [path async for path in bench.blobs.list("outputs")] == []


async def test_an_error_of_ours_and_a_fault_fail_one_job_only(open_bench: OpenBench, tmp_path: Path) -> None:
    def fail(request: Request, _attempt: int) -> None:
        if request.options.scale == 2.0:
            raise ProcessingFailed("it cannot be done")
        if request.options.scale == 3.0:
            raise ZeroDivisionError

    async with open_bench(tmp_path, images=Images(fail)) as bench:
        made = [await bench.jobs.create(wanted(scale=scale)) for scale in (2.0, 3.0, 4.0)]
        ended = [(await bench.jobs.ended(ANNA, job.id, 20)).job for job in made]
        assert [job.state for job in ended] == [State.FAILED, State.FAILED, State.SUCCEEDED]
        reasons = [job.failure.message for job in ended if job.failure is not None]
        assert reasons[0] == "it cannot be done"
        assert "ZeroDivision" not in reasons[1]


async def test_a_job_waits_for_what_is_short_and_then_runs(open_bench: OpenBench, tmp_path: Path) -> None:
    def short_twice(_request: Request, attempt: int) -> None:
        if attempt <= 2:
            raise Overloaded("full", retry_after_seconds=0.0) if attempt == 1 else Unavailable("no worker")

    async with open_bench(tmp_path, images=Images(short_twice)) as bench:
        job = await bench.jobs.create(wanted())
        done = (await bench.jobs.ended(ANNA, job.id, 30)).job
        assert done.state is State.SUCCEEDED
        assert bench.images.attempts == {job.id: 3}


@pytest.mark.parametrize("steps", range(4))
async def test_a_creation_cut_short_leaves_nothing_after_the_next_start(tmp_path: Path, steps: int) -> None:
    job_id = ids.new_id()
    async with jobs_bench.open_bench(tmp_path, start=False) as bench:
        if steps > 0:
            source, options = JobSource(Origin.INLINE), Options()
            job = Job(job_id, "anna", source, options, Priority.BATCH, 0.0, 60.0, request_id="one")
            await bench.book.mark_live(job)
        if steps > 1:
            await requests.claim(
                bench.book.store, "anna", "one", kind="job", payload_sha256="x", new_id=job_id
            )
        if steps > 2:
            await bench.blobs.put(input_path(job_id), b"an image")
    async with jobs_bench.open_bench(tmp_path) as bench:
        assert bench.left_over() == []
        assert await bench.book.all_live() == []
        assert await bench.book.store.range("requests") == []


async def test_a_claim_without_a_job_is_taken_up_by_the_same_request(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path) as bench:
        first = await bench.jobs.create(wanted(request_id="one"))
        await bench.jobs.ended(ANNA, first.id, 20)
        await bench.book.delete("anna", first.id)
        again = await bench.jobs.create(wanted(request_id="one"))
        assert again.id == first.id
        assert (await bench.jobs.ended(ANNA, again.id, 20)).job.state is State.SUCCEEDED


async def test_an_end_cut_short_is_brought_to_its_end(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        await bench.jobs.ended(ANNA, job.id, 20)
        await bench.settled()
        await bench.book.mark_live(job)
        await bench.blobs.put(input_path(job.id), b"left")
    async with jobs_bench.open_bench(tmp_path) as bench:
        assert await bench.book.all_live() == []
        assert bench.left_over() == []
        assert bench.images.began == []


async def test_one_damaged_entry_keeps_no_other_job_from_its_end(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path, start=False) as bench:
        damaged = await bench.jobs.create(wanted())
        good = await bench.jobs.create(wanted())
        entry = await bench.book.store.get(f"jobs/anna/{damaged.id}")
        assert entry is not None
        await bench.book.store.update(entry.key, b"{", entry.version)
    async with jobs_bench.open_bench(tmp_path) as bench:
        assert (await bench.jobs.ended(ANNA, good.id, 20)).job.state is State.SUCCEEDED
        with pytest.raises(ProcessingFailed, match=damaged.id):
            await bench.jobs.get(ANNA, damaged.id)


async def test_a_cancellation_outlives_the_server(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path, start=False) as bench:
        job = await bench.jobs.create(wanted())

        def asked_to_stop(each: Job) -> Job:
            return replace(each.begun(5.0), cancelling=True)

        await bench.book.change("anna", job.id, asked_to_stop)
    async with open_bench(tmp_path) as bench:
        assert (await bench.jobs.ended(ANNA, job.id, 20)).job.state is State.CANCELLED
        assert bench.images.began == []
        await bench.settled()
        assert bench.left_over() == []


async def test_jobs_of_a_caller_that_is_gone_fail(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path, start=False) as bench:
        job = await bench.jobs.create(wanted())
    async with open_bench(tmp_path, callers=()) as bench:
        failed = (await bench.jobs.ended(ANNA, job.id, 20)).job
        assert failed.state is State.FAILED


async def test_only_what_has_not_ended_is_read_at_a_start(tmp_path: Path) -> None:
    async with jobs_bench.open_bench(tmp_path) as bench:
        for _ in range(5):
            job = await bench.jobs.create(wanted(caller=ANONYMOUS))
            await bench.jobs.ended(ANONYMOUS, job.id, 20)
        await bench.settled()
        assert await bench.book.store.range("live") == []
