"""Whoever follows a job hears everything once, over however many broken streams."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from pathlib import Path

import pytest
from fake_jobs import RUNNING, SUCCEEDED
from fake_server import FakeServer

import upscaled
from upscaled import AsyncClient, Client, Retries

QUICK = Retries(max_retries=2, initial_seconds=0.01, max_seconds=0.02)


def test_a_stream_that_breaks_after_every_message_loses_nothing(server: FakeServer) -> None:
    server.jobs.cuts = deque([1] * 5)
    with Client(server.target, retries=QUICK) as client:
        job = client.jobs.create(b"image")
        events = list(job.watch())
    # Queued, running, three times progress, succeeded.
    assert [event.state for event in events] == ["queued", *["running"] * 4, "succeeded"]
    assert [event.number for event in events] == [1, 2, 5, 8, 11, 12]
    assert [event.progress.fraction for event in events if event.progress] == [0.25, 0.5, 0.75]
    assert [event.final for event in events] == [False] * 5 + [True]
    asked = [call.request.after_event_number for call in server.called("WatchJob")]
    assert asked == [0, 1, 2, 5, 8, 11]


def test_watching_begins_behind_a_number(server: FakeServer) -> None:
    with Client(server.target) as client:
        job = client.jobs.create(b"image")
        assert [event.number for event in job.watch(after=8)] == [11, 12]
        assert list(job.watch(after=12)) == []


def test_a_clean_end_that_is_not_the_end_is_taken_up_again(server: FakeServer) -> None:
    with Client(server.target, retries=QUICK) as client:
        server.jobs.at_once = False
        server.jobs.clean_ends = deque([1, 0])
        job = client.jobs.create(b"another")
        events = job.watch()
        assert next(events).state == "queued"
        server.jobs.run(job.id)
        assert [event.state for event in events][-1] == "succeeded"


def test_attempts_that_bring_nothing_are_counted(server: FakeServer) -> None:
    server.jobs.cuts = deque([0] * 9)
    with Client(server.target, retries=0) as client:
        job = client.jobs.create(b"image")
        with pytest.raises(upscaled.UnavailableError, match="cut"):
            list(job.watch())
    assert len(server.called("WatchJob")) == 1


def test_more_failures_than_retries_are_borne_with_patience(server: FakeServer) -> None:
    server.jobs.cuts = deque([0] * 9)
    with Client(server.target, retries=QUICK) as client:
        assert list(client.jobs.create(b"image").watch())[-1].final
    assert len(server.called("WatchJob")) == 10


def test_waiting_tells_progress_and_ends_with_the_job(server: FakeServer) -> None:
    server.jobs.at_once = False
    server.jobs.cuts = deque([1, 1])
    seen: list[upscaled.Progress] = []
    with Client(server.target, retries=QUICK) as client:
        job = client.jobs.create(b"image")
        done = threading.Thread(target=lambda: server._loop.call_soon_threadsafe(server.jobs.run, job.id))
        done.start()
        result = job.wait(timeout=20, on_progress=seen.append)
        done.join()
    assert result.id == job.id
    assert job.state == "succeeded"
    assert [event.fraction for event in seen] == [0.25, 0.5, 0.75]


def test_while_it_is_watched_the_job_is_up_to_date_and_old_news_change_nothing(server: FakeServer) -> None:
    server.jobs.at_once = False
    with Client(server.target) as client:
        job = client.jobs.create(b"image")
        server.jobs.move(job.id, RUNNING)
        server.jobs.progress(job.id, 0.5)
        with job.watch(after=job.last_event_number) as events:
            next(events)
            assert job.state == "running"
            next(events)
            assert job.progress is not None
            assert job.progress.fraction == 0.5
            server.jobs.move(job.id, SUCCEEDED)
            assert next(events).final
        assert job.state == "succeeded"
        assert next(iter(job.watch())).state == "queued"
        assert job.state == "succeeded"


def test_leaving_ends_the_stream_and_not_the_job(server: FakeServer) -> None:
    server.jobs.at_once = False
    with Client(server.target) as client:
        for _event in client.jobs.create(b"image").watch():
            break
        assert server.called("WatchJob")[0].cancelled.wait(5)
    assert not server.called("CancelJob")


def test_tiles_come_once_each_over_broken_streams(server: FakeServer) -> None:
    server.jobs.cuts = deque([1, 2])
    with Client(server.target, retries=QUICK) as client:
        job = client.jobs.create(b"image", tiles=True)
        assert [tile.sequence for tile in job.tiles()] == [0, 1, 2, 3]
        assert [tile.sequence for tile in job.tiles(after=1)] == [2, 3]
    first = server.called("StreamTiles")[0].request
    assert not first.HasField("after_sequence")


async def test_many_jobs_are_followed_at_once(server: FakeServer, tmp_path: Path) -> None:
    async with AsyncClient(server.target) as client:
        jobs = await asyncio.gather(*(client.jobs.create(b"image", request_id=f"r{n}") for n in range(8)))
        results = await asyncio.gather(*(job.wait(20) for job in jobs))
        await asyncio.gather(*(job.download(tmp_path / f"{n}.png") for n, job in enumerate(jobs)))
    assert len({result.id for result in results}) == 8
    assert all(path.read_bytes() == server.file for path in tmp_path.iterdir())
