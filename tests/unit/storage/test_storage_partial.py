"""Files that grow over several calls, in a local folder and piece by piece as in an object store."""

from __future__ import annotations

import os

import pytest
from obstore.store import MemoryStore

from upscaled_server.errors import StorageFull
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.partial import Fence
from upscaled_server.storage.room import Room

MAX_BYTES = 10_000_000
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
    await any_blobs.partial("A").discard()
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


def _objects() -> BlobStore:
    return BlobStore(MemoryStore(), Room(MAX_BYTES, 0, None), None, is_shared=True, is_new=True)


async def _now(blobs: BlobStore, fence: Fence) -> bytes:
    return b"".join([piece async for piece in blobs.partial("A", fence).read()])


async def test_what_a_writer_before_adds_behind_the_base_counts_for_nothing() -> None:
    blobs = _objects()
    before = blobs.partial("A", Fence(1))
    await before.append(b"there")
    await before.append(b"late")
    now = Fence(2, 5)
    assert await _now(blobs, now) == b"there"
    await blobs.partial("A", now).append(b"it goes on")
    await before.append(b"later")
    assert await _now(blobs, now) == b"thereit goes on"


async def test_of_two_writers_at_one_position_the_later_one_counts_also_for_those_after_it() -> None:
    blobs = _objects()
    before = blobs.partial("A", Fence(1))
    await before.append(b"there")
    second = blobs.partial("A", Fence(2, 5))
    await second.append(b"second")
    for piece in (b"before", b"be", b"fore"):
        await before.append(piece)
    third = Fence(3, 11)
    assert await _now(blobs, third) == b"theresecond"
    await blobs.partial("A", third).append(b"third")
    await second.append(b"late")
    assert await _now(blobs, third) == b"theresecondthird"


async def test_what_is_discarded_by_a_writer_before_leaves_the_bytes_of_the_later_one() -> None:
    blobs = _objects()
    await blobs.partial("A", Fence(1)).append(b"wrong")
    await blobs.partial("A", Fence(2)).append(b"right")
    await blobs.partial("A", Fence(1)).discard()
    assert await _now(blobs, Fence(2)) == b"right"
    assert blobs.used_bytes == 5
    await blobs.partial("A", Fence(2)).discard_all()
    assert blobs.used_bytes == 0
