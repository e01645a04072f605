"""How much is kept, also where other servers keep and delete files at the same place."""

from __future__ import annotations

import asyncio

import pytest
from obstore.store import MemoryStore

from upscaled_server.errors import StorageFull
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.room import Room

MAX_BYTES = 1000


class _Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def _two_servers(clock: _Clock) -> tuple[BlobStore, BlobStore]:
    store = MemoryStore()
    rooms = [Room(MAX_BYTES, 0, None, clock=clock) for _ in range(2)]
    one, other = (BlobStore(store, room, None, is_shared=True, is_new=True) for room in rooms)
    return one, other


async def _counted(blobs: BlobStore, expected: int) -> None:
    async with asyncio.timeout(10):
        while blobs.used_bytes != expected:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


async def test_what_other_servers_keep_counts_ten_minutes_later() -> None:
    clock = _Clock()
    one, other = _two_servers(clock)
    await other.put("outputs/A", bytes(300))
    clock.now += 599
    await one.put("outputs/B", bytes(100))
    assert one.used_bytes == 100
    clock.now += 1
    await one.put("outputs/C", bytes(10))
    await _counted(one, 410)


async def test_near_the_bound_what_others_deleted_counts_a_minute_later() -> None:
    clock = _Clock()
    one, other = _two_servers(clock)
    await one.put("outputs/A", bytes(950))
    await other.delete("outputs/A")
    clock.now += 59
    with pytest.raises(StorageFull):
        await one.put("outputs/B", bytes(100))
    clock.now += 1
    with pytest.raises(StorageFull):
        one.check_room(100)
    await _counted(one, 0)
    await one.put("outputs/B", bytes(100))
    assert one.used_bytes == 100


async def test_a_server_by_itself_never_counts_again() -> None:
    clock = _Clock()
    store = MemoryStore()
    alone = BlobStore(store, Room(MAX_BYTES, 0, None, clock=clock), None, is_shared=False, is_new=True)
    await alone.put("outputs/A", bytes(100))
    await store.put_async("outputs/B", bytes(50))
    clock.now += 10_000
    await alone.put("outputs/C", bytes(1))
    await asyncio.sleep(0.05)
    assert alone.used_bytes == 101


async def test_what_is_being_written_counts_also_while_everything_is_counted() -> None:
    room = Room(MAX_BYTES, 0, None)
    room.take(400)
    with room.counting() as count:
        room.take(100)
        count(200)
    assert room.used_bytes == 700
    room.keep(400)
    room.give_up(100)
    assert room.used_bytes == 600
    with pytest.raises(StorageFull) as refused:
        room.check(401)
    assert refused.value.numbers["actual"] == 1001


async def test_what_changes_while_everything_is_counted_is_not_lost() -> None:
    room = Room(MAX_BYTES, 0, None)
    room.take(100)
    room.keep(100)
    with room.counting() as count:
        room.take(50)
        room.keep(50)
        room.give_back(20)
        count(100)
    assert room.used_bytes == 130
