"""What happens where the disk takes no more. A limit on the size of files stands for a full disk: the system
refuses the write in the same way, and needs no rights of an administrator for it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from upscaled_server.errors import StorageFull
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings

FITS = 1_000_000
DATA = os.urandom(3 * FITS)


@contextmanager
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FITS, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
async def blobs(tmp_path: Path) -> BlobStore:
    return await BlobStore.open(StorageSettings(min_free_bytes=0), tmp_path)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_a_file_that_does_not_fit_is_refused_and_leaves_nothing(
    blobs: BlobStore, tmp_path: Path
) -> None:
    with full_disk():
        with pytest.raises(StorageFull):
            await blobs.put("outputs/A", DATA)
        with pytest.raises(StorageFull):
            async with blobs.writer("outputs/A") as writer:
                for begin in range(0, len(DATA), 100_000):
                    await writer.write(DATA[begin : begin + 100_000])
        assert _names(tmp_path) == []
        assert blobs.used_bytes == 0
    await blobs.put("outputs/A", DATA)
    assert await blobs.size("outputs/A") == len(DATA)


async def test_a_replacement_that_does_not_fit_leaves_what_was_there(blobs: BlobStore) -> None:
    await blobs.put("outputs/A", b"before")
    with full_disk():
        with pytest.raises(StorageFull):
            await blobs.put("outputs/A", DATA)
        assert b"".join([piece async for piece in blobs.read("outputs/A")]) == b"before"
    assert blobs.used_bytes == 6


async def test_an_upload_that_does_not_fit_keeps_whole_pieces_and_goes_on_when_there_is_room(
    blobs: BlobStore,
) -> None:
    partial = blobs.partial("A")
    await partial.append(DATA[:400_000])
    with full_disk(), pytest.raises(StorageFull):
        await partial.append(DATA[400_000:])
    assert await partial.size() == blobs.used_bytes == 400_000
    await partial.append(DATA[400_000:])
    await partial.move_to("inputs/A")
    assert b"".join([piece async for piece in blobs.read("inputs/A")]) == DATA
