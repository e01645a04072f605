"""Stored files over a real database and folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.both_stores import OpenStore, sqlite_opener

from upscaled_server.access.caller import Caller
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.stored_records import StoredOutput
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.state.store import Store
from upscaled_server.storage.blobs import BlobStore
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

    def names(self) -> list[str]:
        """Files of the folder of blobs, also those that are not whole."""
        root = self.folder / "blobs"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    async def keys(self) -> list[str]:
        """Everything written down."""
        found = []
        for prefix in ("inputs", "outputs", "stored", "expiry", "requests"):
            found += [entry.key for entry in await self.store.range(prefix)]
        return found


@asynccontextmanager
async def keeping(
    folder: Path,
    *,
    keep: KeepingSettings | None = None,
    storage: StorageSettings | None = None,
    open_store: OpenStore | None = None,
) -> AsyncIterator[Kept]:
    """In SQLite unless `open_store` gives another store."""
    opened = (open_store or sqlite_opener(folder / "state.db"))()
    async with opened as store:
        blobs = await BlobStore.open(storage or StorageSettings(min_free_bytes=0), folder)
        await blobs.ready()
        files = StoredFiles(
            store,
            blobs,
            keep or KeepingSettings(),
            max_input_bytes=MAX_INPUT_BYTES,
            upload_idle_seconds=5.0,
            memory=UploadMemory(64 << 20),
        )
        yield Kept(files, store, blobs, folder)


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
