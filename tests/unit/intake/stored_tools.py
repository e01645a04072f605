"""Stored files over a real database and folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import MemoryStore
from tests.both_stores import OpenStore, sqlite_opener

from upscaled_server.access.caller import Caller
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.stored_records import StoredOutput
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.state.expiry import drop_expiry, read_expiry
from upscaled_server.state.store import Store
from upscaled_server.storage.blobs import BlobStore, BlobWriter, local_root, make_store
from upscaled_server.storage.room import Room
from upscaled_server.storage.settings import StorageSettings

ANNA = Caller("anna")
BEN = Caller("ben")
MAX_INPUT_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """The parts that keep files, and where they do."""

    files: StoredFiles
    store: Store
    blobs: BlobStore
    folder: Path
    url: str = ""

    def names(self) -> list[str]:
        """Every file, in a folder also those that are not whole."""
        root = local_root(self.url, self.folder)
        if root is None:
            pages = obstore.list(make_store(self.url, None))
            return sorted(each["path"] for page in pages for each in page)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    async def keys(self) -> list[str]:
        """Everything written down."""
        found = []
        for prefix in ("inputs", "outputs", "stored", "expiry", "requests"):
            found += [entry.key for entry in await self.store.range(prefix)]
        return found

    async def left_over(self) -> list[str]:
        """Files and keys; where others may still be writing, once all that was given up has expired."""
        if self.blobs.is_shared:
            await self.clear_up()
        return self.names() + await self.keys()

    async def clear_up(self) -> None:
        """What a janitor does, after the times of all entries of `expiry/`. Files themselves go only if their
        own time is up."""
        for entry in await self.store.range("expiry"):
            expiry = read_expiry(entry.key)
            await self.files.expire(expiry)
            if await self.store.get(f"{expiry.kind}puts/{expiry.id}") is None:
                await drop_expiry(self.store, expiry)


@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes are: the folder of one server unless a URL says otherwise."""

    url: str = ""
    has_peers: bool = False


ALONE = Place()


@asynccontextmanager
async def keeping(
    folder: Path,
    *,
    keep: KeepingSettings | None = None,
    storage: StorageSettings | None = None,
    open_store: OpenStore | None = None,
    place: Place = ALONE,
) -> AsyncIterator[Kept]:
    """In SQLite unless `open_store` gives another store."""
    opened = (open_store or sqlite_opener(folder / "state.db"))()
    storage = storage or StorageSettings(min_free_bytes=0, blobs_url=place.url)
    async with opened as store:
        blobs = await BlobStore.open(storage, folder, has_peers=place.has_peers)
        await blobs.ready()
        files = _files(store, blobs, keep or KeepingSettings())
        yield Kept(files, store, blobs, folder, storage.blobs_url)


@asynccontextmanager
async def keeping_twice(folder: Path) -> AsyncIterator[Pair]:
    """Two servers over one database and one object store, both of this process."""
    async with sqlite_opener(folder / "state.db")() as store:
        objects = MemoryStore()
        one, other = (
            BlobStore(objects, Room(1 << 30, 0, None), None, is_shared=True, is_new=True) for _ in range(2)
        )
        yield Pair(
            *(Kept(_files(store, each, KeepingSettings()), store, each, folder) for each in (one, other))
        )


def _files(store: Store, blobs: BlobStore, keep: KeepingSettings) -> StoredFiles:
    return StoredFiles(
        store,
        blobs,
        keep,
        max_input_bytes=MAX_INPUT_BYTES,
        upload_idle_seconds=5.0,
        memory=UploadMemory(64 << 20),
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers over the same records and bytes."""

    one: Kept
    other: Kept


class Ended(Exception):
    """The server is gone."""


@contextmanager
def ends_after(kept: Kept, steps: int) -> Iterator[list[str]]:
    """A server that ends after so many steps, at records or files: nothing that it begins then happens. The
    list names what it came to no more."""
    not_done: list[str] = []
    left = steps

    def step(name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            not_done.append(name)
            raise Ended(name)

    def counted(name: str, call: Any) -> Any:
        async def counting(*args: Any, **options: Any) -> Any:
            step(name)
            return await call(*args, **options)

        return counting

    write = kept.blobs.writer

    @asynccontextmanager
    async def writer(*args: Any, **options: Any) -> AsyncIterator[BlobWriter]:
        step("begin a file")
        async with write(*args, **options) as file:
            yield file
            step("finish a file")
        step("after a file")

    changes: list[tuple[object, str, Any]] = [(kept.blobs, "writer", writer)]
    for part, names in (
        (kept.store, ("get", "create", "update", "delete", "range")),
        (kept.blobs, ("put", "delete", "delete_all", "size")),
    ):
        changes += [(part, name, counted(name, getattr(part, name))) for name in names]
    for part, name, change in changes:
        setattr(part, name, change)
    try:
        yield not_done
    finally:
        for part, name, _ in changes:
            delattr(part, name)


async def chunks(
    data: bytes, *, size: int = 1 << 20, finish: bool = True, then: Iterable[BaseException] = ()
) -> AsyncIterator[tuple[bytes, bool]]:
    """`data` in chunks, the last with `finish`, and then an error."""
    pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
    for number, piece in enumerate(pieces, 1):
        yield piece, finish and number == len(pieces)
    for error in then:
        raise error


async def store_output(
    kept: Kept, output_id: str, data: bytes, *, caller: Caller = ANNA, expires_at: float
) -> StoredOutput:
    async with kept.files.new_output(
        caller,
        output_id=output_id,
        file_name="photo.png",
        content_type="image/png",
        width=10,
        height=20,
        expires_at=expires_at,
    ) as writer:
        for begin in range(0, len(data), 300_000):
            await writer.write(data[begin : begin + 300_000])
    assert writer.record is not None
    return writer.record


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])
