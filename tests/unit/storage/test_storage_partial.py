"""Files that grow over several calls, in a local folder and piece by piece as in an object store."""

from __future__ import annotations

import os

import pytest
from obstore.store import MemoryStore

from upscaled_server.errors import Conflict, StorageFull
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.partial import ObjectPartial
from upscaled_server.storage.room import Room

PIECES = [os.urandom(size) for size in (1, 1_000_000, 70_000, 3)]


async def _read(blobs: BlobStore, path: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(path)])


async def test_bytes_are_added_over_several_openings(any_blobs: BlobStore) -> None:
    assert await any_blobs.partial("A").size() == 0
    for piece in PIECES:
        await any_blobs.partial("A").append(piece)
    partial = any_blobs.partial("A")
    assert await partial.size() == any_blobs.used_bytes == sum(map(len, PIECES))
    assert b"".join([piece async for piece in partial.read()]) == b"".join(PIECES)


async def test_the_whole_becomes_a_file_and_nothing_is_left(any_blobs: BlobStore) -> None:
    for piece in PIECES:
        await any_blobs.partial("A").append(piece)
    await any_blobs.partial("A").move_to("inputs/A")
    assert await _read(any_blobs, "inputs/A") == b"".join(PIECES)
    assert await any_blobs.partial("A").size() == 0
    assert [path async for path in any_blobs.list("partial")] == []
    assert any_blobs.used_bytes == sum(map(len, PIECES))


async def test_what_is_discarded_is_gone(any_blobs: BlobStore) -> None:
    await any_blobs.partial("A").discard()
    for piece in PIECES:
        await any_blobs.partial("A").append(piece)
    await any_blobs.partial("AB").append(b"another")
    await any_blobs.partial("A").discard()
    assert await any_blobs.partial("A").size() == 0
    assert any_blobs.used_bytes == len(b"another")


async def test_a_piece_without_room_is_as_if_it_had_never_come(any_blobs: BlobStore) -> None:
    await any_blobs.partial("A").append(b"there")
    with pytest.raises(StorageFull):
        await any_blobs.partial("A").append(bytes(10_000_000))
    assert await any_blobs.partial("A").size() == any_blobs.used_bytes == 5


async def test_two_servers_cannot_both_write_the_same_piece() -> None:
    store = MemoryStore()
    blobs = BlobStore(store, Room(1000, 0, None), None, is_shared=True, is_new=True)
    await blobs.partial("A").append(b"there")

    class Behind(ObjectPartial):
        async def size(self) -> int:
            return 0

    with pytest.raises(Conflict):
        await Behind(blobs, store, "A").append(b"again")
    assert await blobs.partial("A").size() == 5
