"""Events, tiles, cancelling, deleting, expiry."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_bench import ANNA, BEN, Bench, Clock, Images, OpenBench, until, wanted

from upscaled_server.errors import FailedPrecondition, InvalidField, NotFound, Unavailable
from upscaled_server.jobs.following import JobEvent
from upscaled_server.jobs.job import Callback, CallbackState, Job, State
from upscaled_server.jobs.listing import Filters
from upscaled_server.pipeline.events import Progress
from upscaled_server.pipeline.request import Request, TileOptions


async def _held(_request: Request, _attempt: int) -> None:
    await asyncio.sleep(3600)


async def _events(bench: Bench, job: Job, after: int = 0) -> list[JobEvent]:
    async with asyncio.timeout(20):
        return [event async for event in bench.jobs.watch(ANNA, job.id, after)]


def _states(events: list[JobEvent]) -> list[State]:
    return [event.what.state for event in events if isinstance(event.what, Job)]


async def test_a_watcher_sees_every_change_of_state_in_order(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        events = await _events(bench, job)
        assert _states(events) == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        numbers = [event.number for event in events]
        assert numbers == sorted(set(numbers))


async def test_a_watcher_goes_on_from_where_it_was_also_after_a_restart(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, images=Images(_held)) as bench:
        job = await bench.jobs.create(wanted())
        seen: list[JobEvent] = []
        with pytest.raises(Unavailable):
            async with asyncio.timeout(20), aclosing(bench.jobs.watch(ANNA, job.id, 0)) as events:
                async for event in events:
                    seen.append(event)
                    if isinstance(event.what, Progress):
                        await bench.jobs.stop()
        assert _states(seen) == [State.QUEUED, State.RUNNING]
    async with open_bench(tmp_path) as bench:
        rest = await _events(bench, job, seen[-1].number)
        assert _states(rest) == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        assert all(event.number > seen[-1].number for event in rest)
        assert _states(await _events(bench, job, rest[-2].number))[-1:] == [State.SUCCEEDED]
        assert await _events(bench, job, rest[-1].number) == []


async def test_a_slow_watcher_misses_progress_but_no_state(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        found: list[JobEvent] = []
        async with asyncio.timeout(20), aclosing(bench.jobs.watch(ANNA, job.id, 0)) as events:
            async for event in events:
                found.append(event)
                await asyncio.sleep(0.05)
        assert _states(found) == [State.QUEUED, State.RUNNING, State.SUCCEEDED]


async def test_tiles_come_while_the_job_runs_and_after_it(open_bench: OpenBench, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def wait(_request: Request, _attempt: int) -> None:
        await go_on.wait()

    async with open_bench(tmp_path, images=Images(wait)) as bench:
        job = await bench.jobs.create(wanted(b"abcd", tiles=TileOptions(size=64)))
        early = bench.jobs.tiles(ANNA, job.id, None)
        async with asyncio.timeout(20), aclosing(early):
            assert (await anext(early)).data == b"ab"
            go_on.set()
            assert [tile.data async for tile in early] == [b"cd"]
        tiles = [tile async for tile in bench.jobs.tiles(ANNA, job.id, None)]
        assert [(tile.sequence, tile.data) for tile in tiles] == [(0, b"ab"), (1, b"cd")]
        assert [tile.sequence async for tile in bench.jobs.tiles(ANNA, job.id, 0)] == [1]
        await bench.jobs.delete(ANNA, job.id)
        assert bench.left_over() == []


async def test_a_job_without_tiles_says_so(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        with pytest.raises(FailedPrecondition, match=r"options\.tiles"):
            await anext(bench.jobs.tiles(ANNA, job.id, None))


async def test_queued_and_running_jobs_are_cancelled_and_leave_nothing(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, images=Images(_held), max_running_jobs=1) as bench:
        running = await bench.jobs.create(wanted())
        queued = await bench.jobs.create(wanted())
        await until(lambda: bench.images.has_begun(1))
        assert (await bench.jobs.cancel(ANNA, queued.id)).job.state is State.CANCELLED
        await bench.jobs.cancel(ANNA, running.id)
        assert (await bench.jobs.ended(ANNA, running.id, 20)).job.state is State.CANCELLED
        assert (await bench.jobs.cancel(ANNA, running.id)).job.state is State.CANCELLED
        await bench.settled()
        assert bench.left_over() == []
        assert bench.images.began == [running.id]
        assert [path async for path in bench.blobs.list("outputs")] == []


async def test_a_job_that_has_ended_stays_as_it_is_when_it_is_cancelled(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        await bench.jobs.ended(ANNA, job.id, 20)
        assert (await bench.jobs.cancel(ANNA, job.id)).job.state is State.SUCCEEDED


async def test_deleting_takes_everything_but_only_after_the_end(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    async with open_bench(tmp_path, images=Images(_held)) as bench:
        job = await bench.jobs.create(wanted(request_id="one"))
        with pytest.raises(FailedPrecondition, match="cancel"):
            await bench.jobs.delete(ANNA, job.id)
        await bench.jobs.cancel(ANNA, job.id)
        await bench.jobs.ended(ANNA, job.id, 20)
        await bench.settled()
        await bench.jobs.delete(ANNA, job.id)
        with pytest.raises(NotFound):
            await bench.jobs.get(ANNA, job.id)
        for prefix in ("jobs", "live", "requests", "outputs", "stored"):
            assert await bench.book.store.range(prefix) == []

        async def nothing_expires() -> bool:
            return not [entry for entry in await bench.book.store.range("expiry") if "-job-" in entry.key]

        # Whoever had its turn meanwhile finds that it has ended, and leaves.
        await until(nothing_expires)


async def test_an_end_that_is_overtaken_by_another_and_by_deleting_leaves_no_note(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench(tmp_path, start=False) as bench:
        job, store = await bench.jobs.create(wanted()), bench.book.store
        notes, deleted, create = asyncio.Event(), asyncio.Event(), store.create

        async def create_late(key: str, value: bytes) -> int:
            if key.startswith("expiry/"):
                monkeypatch.undo()
                notes.set()
                await deleted.wait()
            return await create(key, value)

        monkeypatch.setattr(store, "create", create_late)
        overtaken = asyncio.create_task(bench.jobs.cancel(ANNA, job.id))
        await notes.wait()
        await asyncio.sleep(0.002)  # the entries are told apart by milliseconds
        assert (await bench.jobs.cancel(ANNA, job.id)).job.state is State.CANCELLED
        await bench.jobs.delete(ANNA, job.id)
        deleted.set()
        with pytest.raises(NotFound):
            await overtaken
        assert await store.range("expiry") == []


async def test_another_callers_job_does_not_exist(open_bench: OpenBench, tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.jobs.create(wanted())
        for call in (
            bench.jobs.get(BEN, job.id),
            bench.jobs.cancel(BEN, job.id),
            bench.jobs.delete(BEN, job.id),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await anext(bench.jobs.watch(BEN, job.id, 0))
        with pytest.raises(NotFound):
            await anext(bench.jobs.tiles(BEN, job.id, None))
        assert (await bench.jobs.list(BEN, Filters(), size=0, token="")).jobs == ()


@pytest.mark.parametrize(
    "name", ["", "x", "../etc", "jobs/anna/1", "0" * 27, "é" * 26, "\0" * 26, "x" * 10**6]
)
async def test_what_is_no_id_is_refused_by_every_rpc(
    open_bench: OpenBench, tmp_path: Path, name: str
) -> None:
    async with open_bench(tmp_path, start=False) as bench:
        for call in (bench.jobs.get, bench.jobs.cancel, bench.jobs.delete):
            with pytest.raises(InvalidField, match="job_id"):
                await call(ANNA, name)
        with pytest.raises(InvalidField, match="job_id"):
            bench.jobs.watch(ANNA, name, 0)
        with pytest.raises(InvalidField, match="job_id"):
            bench.jobs.tiles(ANNA, name, None)


async def test_what_has_expired_is_deleted_and_counted(open_bench: OpenBench, tmp_path: Path) -> None:
    clock = Clock()
    async with open_bench(tmp_path, clock=clock) as bench:
        short = await bench.jobs.create(replace(wanted(request_id="one"), retention=60.0))
        long = await bench.jobs.create(wanted())
        for job in (short, long):
            await bench.jobs.ended(ANNA, job.id, 20)
        await bench.settled()
        janitor = bench.jobs.janitor
        assert dict(await janitor.round()) == {}
        clock.ahead = 120.0
        assert dict(await janitor.round()) == {"job": 1}
        assert janitor.counts.deleted["job"] == 1
        with pytest.raises(NotFound):
            await bench.jobs.get(ANNA, short.id)
        with pytest.raises(NotFound):
            await bench.files.output("anna", short.id)
        assert (await bench.jobs.get(ANNA, long.id)).job.id == long.id
        assert await bench.book.store.range("requests") == []


async def test_a_job_whose_receiver_is_still_to_be_told_is_kept(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    clock = Clock()
    async with open_bench(tmp_path, clock=clock) as bench:
        new = replace(wanted(), retention=60.0, callback_url="https://x/")
        job = await bench.jobs.create(new)
        await bench.jobs.ended(ANNA, job.id, 20)
        await bench.settled()
        assert bench.receivers.told == [job.id]
        clock.ahead = 120.0
        assert dict(await bench.jobs.janitor.round()) == {}
        await bench.book.change(
            "anna",
            job.id,
            lambda each: replace(each, callback=Callback("https://x/", CallbackState.DELIVERED)),
        )
        clock.ahead = 2 * 3600.0
        assert dict(await bench.jobs.janitor.round()) == {"job": 1}


async def test_everything_of_a_caller_is_deleted(open_bench: OpenBench, tmp_path: Path) -> None:
    def hold_some(request: Request, _attempt: int) -> object:
        return _held(request, 0) if request.options.scale == 2.0 else None

    async with open_bench(tmp_path, images=Images(hold_some)) as bench:
        for scale in (2.0, 3.0, 4.0):
            await bench.jobs.create(wanted(scale=scale))
        kept = await bench.jobs.create(wanted(caller=BEN, scale=3.0))
        await bench.jobs.ended(BEN, kept.id, 20)
        assert await bench.jobs.delete_all_of("anna") == 3
        assert (await bench.jobs.list(ANNA, Filters(), size=0, token="")).jobs == ()
        assert (await bench.jobs.get(BEN, kept.id)).job.id == kept.id
