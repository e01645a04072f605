"""Files in a local folder: whole or not at all, and counted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from upscaled_server.errors import FailedPrecondition, NotFound, StorageFull, Unavailable
from upscaled_server.storage import disk
from upscaled_server.storage.blobs import PIECE_BYTES, BlobStore
from upscaled_server.storage.settings import StorageSettings

DATA = os.urandom(2_500_000)


async def _read(blobs: BlobStore, path: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in blobs.read(path, offset)])


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_what_was_put_is_read_back_from_any_offset(any_blobs: BlobStore) -> None:
    await any_blobs.put("outputs/A", DATA)
    for offset in (0, 1, PIECE_BYTES, len(DATA) - 1, len(DATA)):
        assert await _read(any_blobs, "outputs/A", offset) == DATA[offset:]
    assert await any_blobs.size("outputs/A") == len(DATA)


async def test_pieces_are_of_at_most_a_mebibyte(any_blobs: BlobStore) -> None:
    await any_blobs.put("outputs/A", DATA)
    assert max([len(piece) async for piece in any_blobs.read("outputs/A")]) <= PIECE_BYTES


async def test_a_file_that_is_not_there_says_so(any_blobs: BlobStore) -> None:
    assert await any_blobs.size("outputs/A") is None
    with pytest.raises(NotFound):
        await _read(any_blobs, "outputs/A")
    await any_blobs.delete("outputs/A")
    await any_blobs.delete_all("outputs")


async def test_a_written_file_appears_when_it_is_whole(blobs: BlobStore, tmp_path: Path) -> None:
    async with blobs.writer("outputs/A") as writer:
        await writer.write(DATA[:1_500_000])
        assert await blobs.size("outputs/A") is None
        assert [path async for path in blobs.list("outputs")] == []
        await writer.write(DATA[1_500_000:])
    assert await _read(blobs, "outputs/A") == DATA
    assert _names(tmp_path / "blobs") == ["outputs/A"]
    assert blobs.used_bytes == len(DATA)


async def test_a_large_file_is_written_in_parts_and_appears_when_it_is_whole(any_blobs: BlobStore) -> None:
    data = os.urandom(9_000_000)
    async with any_blobs.writer("outputs/A") as writer:
        for begin in range(0, len(data), 700_000):
            await writer.write(data[begin : begin + 700_000])
        assert await any_blobs.size("outputs/A") is None
    for offset in (0, 8_500_000):
        assert await _read(any_blobs, "outputs/A", offset) == data[offset:]


@pytest.mark.parametrize("error", [ValueError, OSError, asyncio.CancelledError])
async def test_a_broken_off_write_leaves_what_was_there(
    blobs: BlobStore, tmp_path: Path, error: type[BaseException]
) -> None:
    await blobs.put("outputs/A", b"before")
    with pytest.raises(error):
        async with blobs.writer("outputs/A") as writer:
            await writer.write(DATA)
            raise error
    assert await _read(blobs, "outputs/A") == b"before"
    assert _names(tmp_path / "blobs") == ["outputs/A"]
    assert blobs.used_bytes == 6


async def test_a_file_that_takes_anothers_place_is_counted_once(any_blobs: BlobStore) -> None:
    await any_blobs.put("outputs/A", DATA)
    await any_blobs.put("outputs/A", b"short")
    assert any_blobs.used_bytes == 5
    async with any_blobs.writer("outputs/A") as writer:
        await writer.write(b"longer one")
    assert any_blobs.used_bytes == 10
    await any_blobs.delete("outputs/A")
    assert any_blobs.used_bytes == 0


async def test_a_folder_is_listed_and_deleted_with_all_that_is_in_it(
    blobs: BlobStore, tmp_path: Path
) -> None:
    for number in range(120):
        await blobs.put(f"tiles/A/{number:06}", b"tile")
    await blobs.put("tiles/AB/000001", b"tile")
    assert len([path async for path in blobs.list("tiles/A")]) == 120
    await blobs.delete_all("tiles/A")
    assert _names(tmp_path / "blobs") == ["tiles/AB/000001"]
    assert not (tmp_path / "blobs/tiles/A").exists()
    assert blobs.used_bytes == 4


async def test_a_file_is_on_the_disk_with_every_folder_that_leads_to_it(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, synced = tmp_path / "blobs", set()

    def noting_sync(path: Path) -> None:
        synced.add(path)
        sync(path)

    sync = disk.sync
    monkeypatch.setattr(disk, "sync", noting_sync)
    for _ in range(2):
        synced.clear()
        await blobs.put("outputs/A/1", DATA)
        assert synced == {root, root / "outputs", root / "outputs/A", root / "outputs/A/1"}
        # The root has its name for good from then on, until it goes.
        synced.clear()
        await blobs.put("outputs/B/1", DATA)
        assert synced == {root / "outputs", root / "outputs/B", root / "outputs/B/1"}
        for name in ("A", "B"):
            await blobs.delete_all(f"outputs/{name}")
        await blobs.delete_all("outputs")
        assert not (root / "outputs").exists()


async def test_a_file_that_is_deleted_is_read_to_its_end(blobs: BlobStore) -> None:
    await blobs.put("outputs/A", DATA)
    reading = blobs.read("outputs/A")
    first = await anext(reading)
    await blobs.delete("outputs/A")
    assert first + b"".join([piece async for piece in reading]) == DATA


async def test_no_more_is_kept_than_the_bound(blobs: BlobStore, tmp_path: Path) -> None:
    await blobs.put("outputs/A", bytes(9_000_000))
    with pytest.raises(StorageFull) as refused:
        await blobs.put("outputs/B", bytes(1_000_001))
    assert refused.value.numbers == {"limit": 10_000_000, "actual": 10_000_001, "unit": "bytes"}
    with pytest.raises(StorageFull):
        async with blobs.writer("outputs/B") as writer:
            await writer.write(bytes(600_000))
            await writer.write(bytes(600_000))
    with pytest.raises(StorageFull):
        await blobs.partial("B").append(bytes(1_000_001))
    assert _names(tmp_path / "blobs") == ["outputs/A"]
    await blobs.put("outputs/B", bytes(1_000_000))


async def test_what_was_there_before_counts(blobs: BlobStore, tmp_path: Path) -> None:
    await blobs.put("outputs/A", DATA)
    again = await BlobStore.open(StorageSettings(max_stored_bytes=len(DATA), min_free_bytes=0), tmp_path)
    await again.ready()
    assert again.used_bytes == len(DATA)
    with pytest.raises(StorageFull):
        await again.put("outputs/B", b"x")


async def test_a_change_waits_until_everything_is_counted(blobs: BlobStore, tmp_path: Path) -> None:
    await blobs.put("outputs/A", DATA)
    again = await BlobStore.open(StorageSettings(max_stored_bytes=len(DATA), min_free_bytes=0), tmp_path)
    with pytest.raises(StorageFull):
        await again.partial("B").append(b"x")
    third = await BlobStore.open(StorageSettings(), tmp_path)
    await third.delete("outputs/A")
    assert third.used_bytes == 0


async def test_a_part_of_the_disk_stays_free(tmp_path: Path) -> None:
    blobs = await BlobStore.open(StorageSettings(min_free_bytes=1 << 60), tmp_path)
    with pytest.raises(StorageFull, match="UPSCALED_MIN_FREE_BYTES"):
        blobs.check_room(1)


async def test_what_a_killed_server_left_unfinished_goes_at_the_next_start(
    blobs: BlobStore, tmp_path: Path
) -> None:
    await blobs.put("outputs/A", DATA)
    (tmp_path / "blobs/outputs/B#1").write_bytes(b"half of it")
    (tmp_path / "blobs/tiles/C").mkdir(parents=True)
    await (await BlobStore.open(StorageSettings(), tmp_path)).ready()
    assert sorted(path.name for path in (tmp_path / "blobs").rglob("*")) == ["A", "outputs"]


async def test_a_folder_that_others_may_use_keeps_what_they_are_writing(tmp_path: Path) -> None:
    folder = tmp_path / "shared files"
    settings = StorageSettings(blobs_url=folder.as_uri())
    await (await BlobStore.open(settings, tmp_path)).put("outputs/A", DATA)
    for name, age in (("B#1", 0), ("C#2", 2 * 24 * 3600)):
        path = folder / "outputs" / name
        path.write_bytes(b"half of it")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    await (await BlobStore.open(settings, tmp_path)).ready()
    assert _names(folder) == ["outputs/A", "outputs/B#1"]


async def test_a_folder_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    settings = StorageSettings(blobs_url=(tmp_path / "file/blobs").as_uri())
    with pytest.raises(FailedPrecondition, match="UPSCALED_BLOBS_URL"):
        await BlobStore.open(settings, tmp_path)


@pytest.mark.parametrize("url", ["ftp://host/x", "/var/blobs", "s3://", "file://"])
def test_a_place_that_is_none_is_refused_with_the_settings(url: str) -> None:
    with pytest.raises(ValueError, match="is expected"):
        StorageSettings(blobs_url=url)


@pytest.mark.parametrize(
    "path", ["../outside", "outputs/../../outside", "outputs/\0", "outputs//A", "/etc/x/.."]
)
async def test_no_path_leads_outside(blobs: BlobStore, tmp_path: Path, path: str) -> None:
    with pytest.raises((Unavailable, NotFound)):
        await blobs.put(path, b"x")
    assert _names(tmp_path) == []
