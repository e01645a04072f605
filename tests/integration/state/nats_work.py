"""Writers that go on whatever happens to NATS, and remember what was acknowledged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from upscaled_server.errors import Unavailable
from upscaled_server.state.nats.store import NatsStore
from upscaled_server.state.store import KeyExists, VersionChanged


@dataclass
class Acknowledged:
    """What must be there at the end: versions by key; a counter; and how often a call failed on the way."""

    versions: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    unsure: int = 0
    """Increments that may have happened or not."""
    failed: int = 0
    read_behind: int = 0
    """Reads that did not show what had been acknowledged."""


async def write_until(store: NatsStore, name: str, stop: asyncio.Event, done: Acknowledged) -> None:
    """Creates one key after the other, and reads each at once."""
    number = 0
    while not stop.is_set():
        key = f"{name}/{number:06}"
        try:
            done.versions[key] = await store.create(key, key.encode())
            entry = await store.get(key)
            done.read_behind += entry is None or entry.version != done.versions[key]
        except KeyExists:
            pass  # an attempt whose answer was lost
        except Unavailable:
            done.failed += 1
            await asyncio.sleep(0.02)
            continue
        number += 1


async def count_until(store: NatsStore, key: str, stop: asyncio.Event, done: Acknowledged) -> None:
    """Adds 1 to a number that others add to."""
    while not stop.is_set():
        try:
            added = await increment(store, key)
            done.counted += added
        except Unavailable:
            done.unsure += 1
            done.failed += 1
            await asyncio.sleep(0.02)


async def increment(store: NatsStore, key: str) -> int:
    """1 if it was added, 0 if somebody else was faster."""
    entry = await store.get(key)
    try:
        if entry is None:
            await store.create(key, b"1")
        else:
            await store.update(key, str(int(entry.value) + 1).encode(), entry.version)
    except (KeyExists, VersionChanged):
        return 0
    return 1


async def until_it_answers(store: NatsStore) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await store.range("anything")
                return
            except Unavailable:
                await asyncio.sleep(0.05)


async def check(store: NatsStore, name: str, done: Acknowledged, counter: str) -> None:
    """Everything that was acknowledged is there, under a range too, and the counter is right."""
    found: dict[str, int] = {}
    last = ""
    while page := await store.range(name, after=last):
        found |= {entry.key: entry.version for entry in page}
        assert all(entry.value == entry.key.encode() for entry in page)
        last = page[-1].key
    lost = [key for key, version in done.versions.items() if found.get(key) != version]
    assert lost == []
    assert list(found) == sorted(found)
    entry = await store.get(counter)
    assert entry is not None
    assert done.counted <= int(entry.value) <= done.counted + done.unsure, (entry, done.counted, done.unsure)
