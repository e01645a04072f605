"""What it takes for a job to be acknowledged, and what it comes to when it is asked for twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from jobs_bench import ANNA, BEN, Images, OpenBench, until, wanted

from upscaled_server.access.caller import ANONYMOUS, Caller, Priority
from upscaled_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotAnImage,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    StorageFull,
    WorkerLost,
)
from upscaled_server.jobs.job import State
from upscaled_server.pipeline.request import Request


async def _held(_request: Request, _attempt: int) -> None:
    await asyncio.sleep(3600)


async def test_a_job_is_run_and_its_output_is_there(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted(b"pixels"))
        done = (await bench.jobs.ended(ANNA, job.id, 20)).job
        assert (done.state, done.attempts) == (State.SUCCEEDED, 1)
        assert await bench.output_of(done) == b"pixels"
        assert done.done is not None
        assert done.done.settings.priority is Priority.BATCH
        await bench.settled()
        assert bench.left_over() == []


async def test_the_same_request_is_the_same_job(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        jobs = await asyncio.gather(*(bench.jobs.create(wanted(request_id="one")) for _ in range(8)))
        assert len({job.id for job in jobs}) == 1
        await bench.jobs.ended(ANNA, jobs[0].id, 20)
        again = await bench.jobs.create(wanted(request_id="one"))
        assert (again.id, again.state) == (jobs[0].id, State.SUCCEEDED)
        assert bench.images.began == [jobs[0].id]


@pytest.mark.parametrize("other", [wanted(b"another", request_id="one"), wanted(request_id="one", scale=2.0)])
async def test_another_payload_under_the_same_request_id_is_refused(
    open_bench: OpenBench, tmp_path: Path, other: object
) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.jobs.create(wanted(request_id="one"))
        with pytest.raises(AlreadyExists, match="request_id"):
            await bench.jobs.create(other)  # type: ignore[arg-type]


async def test_request_ids_are_each_callers_own(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        annas = await bench.jobs.create(wanted(request_id="one"))
        bens = await bench.jobs.create(wanted(b"another", BEN, request_id="one"))
        assert annas.id != bens.id


async def test_what_is_wrong_with_an_image_is_said_at_once_and_leaves_nothing(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    class Refusing(Images):
        def run(self, *_):  # type: ignore[no-untyped-def]
            raise NotAnImage("this is no image")

    async with open_bench(tmp_path, images=Refusing()) as bench:
        with pytest.raises(NotAnImage):
            await bench.jobs.create(wanted(request_id="one"))
        assert bench.left_over() == []
        assert await bench.book.all_live() == []
        assert await bench.book.store.range("requests") == []


async def test_a_caller_has_a_bounded_number_of_jobs(open_bench: OpenBench, tmp_path: Path) -> None:
    few = Caller("few", max_queued_jobs=2)
    async with open_bench(tmp_path, images=Images(_held), callers=(few, ANNA)) as bench:
        first = await bench.jobs.create(wanted(caller=few, request_id="first"))
        await bench.jobs.create(wanted(caller=few))
        with pytest.raises(QuotaExceeded, match="few"):
            await bench.jobs.create(wanted(caller=few))
        assert (await bench.jobs.create(wanted(caller=few, request_id="first"))).id == first.id
        await bench.jobs.create(wanted())
        await bench.jobs.cancel(few, first.id)
        await bench.jobs.ended(few, first.id, 20)
        await bench.jobs.create(wanted(caller=few))


async def test_the_bound_holds_for_requests_at_once(open_bench: OpenBench, tmp_path: Path) -> None:
    few = Caller("few", max_queued_jobs=3)
    async with open_bench(tmp_path, images=Images(_held), callers=(few,)) as bench:
        outcomes = await asyncio.gather(
            *(bench.jobs.create(wanted(caller=few)) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(each, QuotaExceeded) for each in outcomes) == 7


async def test_the_server_has_a_bounded_number_of_jobs(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path, images=Images(_held), max_queued_jobs=2) as bench:
        await bench.jobs.create(wanted(caller=ANONYMOUS))
        await bench.jobs.create(wanted())
        with pytest.raises(Overloaded) as caught:
            await bench.jobs.create(wanted(caller=ANONYMOUS))
        assert caught.value.retry_after_seconds > 0


async def test_a_priority_above_the_callers_is_refused(open_bench: OpenBench, tmp_path: Path) -> None:
    slow = Caller("slow", max_priority=Priority.BATCH)
    async with open_bench(tmp_path, callers=(slow,)) as bench:
        with pytest.raises(PermissionDenied, match="priority"):
            await bench.jobs.create(wanted(caller=slow, priority=Priority.INTERACTIVE))


async def test_a_caller_that_leaves_in_the_middle_leaves_a_whole_job_or_none(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path) as bench:
        for turns in range(12):
            creating = asyncio.create_task(bench.jobs.create(wanted(request_id=f"r{turns}")))
            for _ in range(turns):
                await asyncio.sleep(0.001)
            creating.cancel()
            await asyncio.gather(creating, return_exceptions=True)
        for turns in range(12):
            job = await bench.jobs.create(wanted(request_id=f"r{turns}"))
            assert (await bench.jobs.ended(ANNA, job.id, 20)).job.state is State.SUCCEEDED
        assert len(bench.images.began) == len(set(bench.images.began)) == 12
        await bench.settled()
        assert bench.left_over() == []


async def test_an_image_from_elsewhere_is_fetched_once_for_all_attempts(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    def lose_once(_request: Request, attempt: int) -> None:
        if attempt == 1:
            raise WorkerLost("the worker ended")

    async with open_bench(tmp_path, images=Images(lose_once)) as bench:
        bench.elsewhere.images["https://x/a.png"] = b"from elsewhere"
        job = await bench.jobs.create(wanted(url="https://x/a.png"))
        done = (await bench.jobs.ended(ANNA, job.id, 20)).job
        assert (done.state, done.attempts) == (State.SUCCEEDED, 2)
        assert await bench.output_of(done) == b"from elsewhere"
        assert bench.elsewhere.asked == 1
        await bench.settled()
        assert bench.left_over() == []


async def test_the_payload_does_not_depend_on_the_order_of_labels(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path) as bench:
        one = wanted(request_id="one", labels={"a": "1", "b": "2"})
        other = wanted(request_id="one", labels={"b": "2", "a": "1"})
        assert (await bench.jobs.create(one)).id == (await bench.jobs.create(other)).id


async def test_without_room_a_job_is_refused_and_nothing_is_left_of_it(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, max_stored_bytes=100) as bench:
        with pytest.raises(StorageFull):
            await bench.jobs.create(wanted(b"x" * 200, request_id="one"))
        assert bench.left_over() == []
        for prefix in ("jobs", "live", "requests"):
            assert await bench.book.store.range(prefix) == []
        small = await bench.jobs.create(wanted(b"x" * 20, request_id="one"))
        assert (await bench.jobs.ended(ANNA, small.id, 20)).job.state is State.SUCCEEDED


async def test_a_job_whose_output_finds_no_room_waits_for_some(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path, max_stored_bytes=100) as bench:
        first = await bench.jobs.create(wanted(b"x" * 45))
        await bench.jobs.ended(ANNA, first.id, 20)
        await bench.settled()
        second = await bench.jobs.create(wanted(b"y" * 45))
        await until(lambda: bench.images.has_begun(2))
        await bench.jobs.delete(ANNA, first.id)
        done = (await bench.jobs.ended(ANNA, second.id, 30)).job
        assert done.state is State.SUCCEEDED
        assert await bench.output_of(done) == b"y" * 45


async def test_images_of_jobs_count_among_what_a_caller_stores(open_bench: OpenBench, tmp_path: Path) -> None:
    little = Caller("little", max_stored_bytes=100)
    async with open_bench(tmp_path, images=Images(_held), callers=(little,)) as bench:
        await bench.jobs.create(wanted(b"x" * 60, little))
        with pytest.raises(QuotaExceeded, match="stores"):
            await bench.jobs.create(wanted(b"y" * 60, little))
        await bench.jobs.create(wanted(b"z" * 30, little))


async def test_a_server_that_takes_no_jobs_says_so_and_keeps_nothing(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, max_queued_jobs=0) as bench:
        with pytest.raises(FailedPrecondition, match="UPSCALED_MAX_QUEUED_JOBS is 0"):
            await bench.jobs.create(wanted())
        assert bench.left_over() == []
