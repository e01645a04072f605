"""A backup is true: of one moment, whole, taken while the service works, and restored as it was."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_bench import ANNA, Bench, Images, open_bench, until, wanted

from upscaled_server.backup.contents import Named
from upscaled_server.backup.files import missing_in_store
from upscaled_server.backup.manifest import Manifest
from upscaled_server.backup.restoring import restore
from upscaled_server.backup.taking import take
from upscaled_server.errors import FailedPrecondition, NotFound, ProcessingFailed
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.places import tile_path
from upscaled_server.pipeline.request import Request, TileOptions
from upscaled_server.state.copying import copy_database, read_copy
from upscaled_server.state.database import SCHEMA_VERSION
from upscaled_server.state.folder import DataFolder
from upscaled_server.state.sqlite import SqliteStore
from upscaled_server.storage.settings import StorageSettings

STORAGE = StorageSettings()


async def _held(_request: Request, _attempt: int) -> None:
    await asyncio.sleep(3600)


async def _take(folder: Path, target: Path) -> Manifest:
    return await asyncio.to_thread(take, folder, STORAGE, target)


async def _ended(bench: Bench, job: Job) -> Job:
    return (await bench.jobs.ended(ANNA, job.id, 20)).job


def _output(folder: Path, job: Job) -> str:
    """The path of its output among the blobs."""
    (path,) = (folder / "blobs" / "outputs" / job.id).iterdir()
    return str(path.relative_to(folder / "blobs"))


def _unlink(folder: Path, job: Job) -> str:
    """Where its output was."""
    name = _output(folder, job)
    (folder / "blobs" / name).unlink()
    return name


async def _one_done(folder: Path, image: bytes = b"an image") -> Job:
    async with open_bench(folder) as bench:
        done = await _ended(bench, await bench.jobs.create(wanted(image)))
        await bench.settled()
    return done


async def test_what_had_ended_is_there_again_and_what_had_not_goes_on(tmp_path: Path) -> None:
    hold: set[str] = set()

    async def work(request: Request, _attempt: int) -> None:
        if request.ledger_id in hold:
            await _held(request, 0)

    live = tmp_path / "live"
    live.mkdir()
    async with open_bench(live, images=Images(work), max_running_jobs=1) as bench:
        tiles = TileOptions()
        done = await _ended(bench, await bench.jobs.create(wanted(b"done", tiles=tiles)))
        running = await bench.jobs.create(wanted(b"running"))
        hold.add(running.id)
        await until(lambda: bench.images.has_begun(2))
        queued = await bench.jobs.create(wanted(b"queued"))
        manifest = await _take(live, tmp_path / "backup")
    assert manifest.missing == []
    assert len(manifest.files) == 5  # an output, two tiles, two images that wait
    found, missing = restore(tmp_path / "backup", tmp_path / "new", STORAGE)
    assert (found, missing) == (manifest, [])
    async with open_bench(tmp_path / "new") as bench:
        again = await bench.book.get("anna", done.id)
        assert again == done
        assert await bench.output_of(again) == b"done"
        assert await bench.blobs.size(tile_path(done.id, 1))
        for job, image in ((running, b"running"), (queued, b"queued")):
            ended = await _ended(bench, job)
            assert ended.state is State.SUCCEEDED
            assert await bench.output_of(ended) == image


async def test_what_goes_while_it_is_copied_is_not_named_by_the_backup(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    copies = 0
    async with open_bench(live) as bench:
        goes = await _ended(bench, await bench.jobs.create(wanted(b"goes")))
        stays = await _ended(bench, await bench.jobs.create(wanted(b"stays")))
        await bench.settled()
        loop = asyncio.get_running_loop()

        def after_each_copy() -> None:
            nonlocal copies
            copies += 1
            if copies == 1:
                deleting = bench.jobs.delete(ANNA, goes.id)
                asyncio.run_coroutine_threadsafe(deleting, loop).result(20)

        manifest = await asyncio.to_thread(take, live, STORAGE, tmp_path / "backup", copied=after_each_copy)
    assert copies == 2
    assert manifest.missing == []
    (name,) = manifest.files
    assert name.startswith(f"outputs/{stays.id}/")
    kept = [path for path in (tmp_path / "backup" / "files").rglob("*") if path.is_file()]
    assert kept == [tmp_path / "backup" / "files" / name]
    restore(tmp_path / "backup", tmp_path / "new", STORAGE)
    async with open_bench(tmp_path / "new") as bench:
        assert await bench.output_of(await bench.book.get("anna", stays.id)) == b"stays"
        with pytest.raises(NotFound):
            await bench.book.get("anna", goes.id)


async def test_backups_during_work_are_each_of_one_moment(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    images: dict[str, bytes] = {}
    stop = asyncio.Event()

    async def churn(bench: Bench, worker: int) -> None:
        """Make jobs, and delete every third when it has ended."""
        number = 0
        while not stop.is_set():
            image = b"%d-%d" % (worker, number)
            job = await bench.jobs.create(wanted(image))
            images[job.id] = image
            await _ended(bench, job)
            if number % 3 == 0:
                await bench.settled()
                await bench.jobs.delete(ANNA, job.id)
            number += 1

    backups = [tmp_path / f"backup-{number}" for number in range(4)]
    async with open_bench(live) as bench:
        work = [asyncio.create_task(churn(bench, worker)) for worker in range(4)]
        for backup in backups:
            before = len(images)
            await until(lambda before=before: _more_than(images, before + 20))
            assert (await _take(live, backup)).missing == []
        stop.set()
        await asyncio.gather(*work)
    for backup in backups:
        new = backup.with_name(f"{backup.name}-restored")
        assert restore(backup, new, STORAGE)[1] == []
        async with open_bench(new) as bench:
            await bench.settled()
            named = 0
            for entry in await bench.book.store.range("jobs/anna"):
                job = await bench.book.get("anna", entry.key.rpartition("/")[2])
                assert job.state is State.SUCCEEDED
                assert await bench.output_of(job) == images[job.id]
                named += 1
            assert named > 10
            assert bench.left_over() == []


async def _more_than(images: dict[str, bytes], count: int) -> bool:
    return len(images) > count


async def test_what_is_written_while_the_database_is_copied_is_not_in_the_copy(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "state.db")
    loop = asyncio.get_running_loop()
    await store.create("callers/before", b"")

    def write_more() -> None:
        for number in range(1000):
            writing = store.create(f"callers/{number}", b"x" * 1000)
            asyncio.run_coroutine_threadsafe(writing, loop).result(20)

    await asyncio.to_thread(copy_database, tmp_path / "state.db", tmp_path / "copy.db", write_more)
    assert [entry.key for entry in read_copy(tmp_path / "copy.db")] == ["callers/before"]
    assert len(await store.range("callers")) == 1000  # a page of them
    await store.aclose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "state.db", "state.db-mark"]


async def test_an_image_whose_job_ends_at_the_moment_of_the_copy_is_in_the_backup(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    go_on = asyncio.Event()

    async def work(_request: Request, _attempt: int) -> None:
        await go_on.wait()

    async with open_bench(live, images=Images(work)) as bench:
        job = await bench.jobs.create(wanted(b"an image"))
        await until(lambda: bench.images.has_begun(1))
        loop = asyncio.get_running_loop()

        async def end() -> None:
            go_on.set()
            await bench.jobs.ended(ANNA, job.id, 20)
            await bench.settled()

        def after_each_copy() -> None:
            asyncio.run_coroutine_threadsafe(end(), loop).result(20)

        manifest = await asyncio.to_thread(take, live, STORAGE, tmp_path / "backup", copied=after_each_copy)
    assert (list(manifest.files), manifest.missing) == ([f"job-inputs/{job.id}"], [])
    restore(tmp_path / "backup", tmp_path / "new", STORAGE)
    async with open_bench(tmp_path / "new") as bench:
        assert (await _ended(bench, job)).state is State.SUCCEEDED


async def test_what_has_expired_may_be_gone(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    async with open_bench(live, janitor_seconds=3600) as bench:
        short = await bench.jobs.create(replace(wanted(b"short"), retention=0.5))
        done = await _ended(bench, short)
        await bench.settled()
        assert done.expires is not None
        while time.time() < done.expires:  # noqa: ASYNC110 - the time is the thing
            await asyncio.sleep(0.1)
        await bench.blobs.delete_all(f"outputs/{done.id}")
    assert (await _take(live, tmp_path / "backup")).missing == []
    assert restore(tmp_path / "backup", tmp_path / "new", STORAGE)[1] == []


async def test_an_output_that_is_not_there_is_told_with_its_job_by_both(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    done = await _one_done(live)
    name = _unlink(live, done)
    manifest = await _take(live, tmp_path / "backup")
    (told,) = manifest.missing
    assert (told.path, told.problem) == (name, "is not there")
    assert done.id in told.owner
    (told,) = restore(tmp_path / "backup", tmp_path / "new", STORAGE)[1]
    assert (told.path, told.problem) == (name, "is not in the backup")


async def test_an_output_that_rotted_is_told_and_is_not_handed_out(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    done = await _one_done(live)
    (live / "blobs" / _output(live, done)).write_bytes(b"an imagE")
    (told,) = (await _take(live, tmp_path / "backup")).missing
    assert "SHA-256" in told.problem
    (told,) = restore(tmp_path / "backup", tmp_path / "new", STORAGE)[1]
    assert "SHA-256" in told.problem
    async with open_bench(tmp_path / "new") as bench:
        with pytest.raises(NotFound):
            await bench.output_of(done)


async def test_a_file_that_was_changed_in_the_backup_is_told(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    done = await _one_done(live)
    await _take(live, tmp_path / "backup")
    name = _output(live, done)
    (tmp_path / "backup" / "files" / name).write_bytes(b"other bytes")
    (told,) = restore(tmp_path / "backup", tmp_path / "new", STORAGE)[1]
    assert told.problem == "is damaged in the backup"
    assert not (tmp_path / "new" / "blobs" / name).exists()


@pytest.mark.parametrize("change", ["database", "manifest", "format", "schema"])
async def test_a_backup_that_cannot_be_trusted_is_refused_and_leaves_no_state(
    tmp_path: Path, change: str
) -> None:
    live, backup, new = tmp_path / "live", tmp_path / "backup", tmp_path / "new"
    live.mkdir()
    await _one_done(live)
    await _take(live, backup)
    manifest = backup / "manifest.json"
    if change == "database":
        with (backup / "state.db").open("r+b") as file:
            file.seek(5000)
            file.write(b"rot")
    elif change == "manifest":
        manifest.write_text(manifest.read_text()[:-40])
    elif change == "format":
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    else:
        _raise_schema(backup)
    with pytest.raises(FailedPrecondition, match=r"damaged|format 2|newer version"):
        restore(backup, new, STORAGE)
    assert not (new / "state.db").exists()
    assert not list(new.glob("state.db*"))


def _raise_schema(backup: Path) -> None:
    """As a newer version would have written it."""
    with closing(sqlite3.connect(backup / "state.db")) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    manifest = json.loads((backup / "manifest.json").read_text())
    data = (backup / "state.db").read_bytes()
    manifest["database"] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (backup / "manifest.json").write_text(json.dumps(manifest))


async def test_a_database_with_a_changed_value_is_not_backed_up(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    await _one_done(live)
    with closing(sqlite3.connect(live / "state.db")) as connection:
        connection.execute("UPDATE entries SET value = x'00' WHERE key LIKE 'jobs/%'")
        connection.commit()
    with pytest.raises(ProcessingFailed, match="damaged"):
        await _take(live, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == [live]


async def test_nothing_is_written_over(tmp_path: Path) -> None:
    live, backup = tmp_path / "live", tmp_path / "backup"
    live.mkdir()
    await _one_done(live)
    await _take(live, backup)
    with pytest.raises(FailedPrecondition, match="there already"):
        await _take(live, backup)
    with pytest.raises(FailedPrecondition, match="there already"):
        restore(backup, live, STORAGE)


async def test_a_mark_of_another_database_is_not_left_beside_what_is_restored(tmp_path: Path) -> None:
    live, backup, new = tmp_path / "live", tmp_path / "backup", tmp_path / "new"
    live.mkdir()
    await _one_done(live)
    await _take(live, backup)
    new.mkdir()
    (live / "state.db-mark").rename(new / "state.db-mark")
    with pytest.raises(FailedPrecondition, match=r"state\.db-mark is there already"):
        restore(backup, new, STORAGE)


async def test_a_restore_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    live, backup, new = tmp_path / "live", tmp_path / "backup", tmp_path / "new"
    live.mkdir()
    done = await _one_done(live)
    await _take(live, backup)
    half = new / "blobs" / _output(live, done)
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    (new / "state.db.restoring").write_bytes(b"half")
    assert restore(backup, new, STORAGE)[1] == []
    async with open_bench(new) as bench:
        assert await bench.output_of(done) == b"an image"


async def test_a_folder_in_use_is_not_restored_into(tmp_path: Path) -> None:
    live, backup, new = tmp_path / "live", tmp_path / "backup", tmp_path / "new"
    live.mkdir()
    await _one_done(live)
    await _take(live, backup)
    with DataFolder(new), pytest.raises(FailedPrecondition, match="in use by another server"):
        restore(backup, new, STORAGE)


def test_a_folder_without_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"has no state\.db"):
        take(tmp_path, STORAGE, tmp_path / "backup")
    with pytest.raises(FailedPrecondition, match="is not a backup"):
        restore(tmp_path, tmp_path / "new", STORAGE)


async def test_nobody_else_can_read_a_backup(tmp_path: Path) -> None:
    live, backup = tmp_path / "live", tmp_path / "backup"
    live.mkdir()
    await _one_done(live)
    await _take(live, backup)
    for path in [backup, *backup.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


async def test_in_an_object_store_files_are_looked_for_by_what_it_lists(tmp_path: Path) -> None:
    there, gone, cut = [await _one_done(tmp_path, image) for image in (b"there", b"gone", b"was cut")]
    paths = {job.id: _output(tmp_path, job) for job in (there, gone, cut)}
    _unlink(tmp_path, gone)
    (tmp_path / "blobs" / paths[cut.id]).write_bytes(b"was")
    names = [Named(paths[job.id], f"job {job.id}", size) for job, size in ((there, 5), (gone, 4), (cut, 7))]
    # A folder by its URL is listed in the way of any other store.
    missing = missing_in_store(StorageSettings(blobs_url=(tmp_path / "blobs").as_uri()), names)
    assert [(each.path, each.problem) for each in missing] == [
        (paths[gone.id], "is not there"),
        (paths[cut.id], "has 3 bytes in place of 7"),
    ]
