"""Outputs: written once from beginning to end, visible when whole, with size and SHA-256 known."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import quote

from upscaled_server.errors import DomainError, NotFound
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import StoredOutput, output_from, to_value
from upscaled_server.state.expiry import drop_expiry, note_expiry
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged
from upscaled_server.state.ulid import is_ulid
from upscaled_server.storage.blobs import BlobStore, BlobWriter
from upscaled_server.storage.unbroken import unbroken

# Hashing more than this at once would hold up the event loop.
_HASH_BESIDE_BYTES = 256 * 1024


class OutputWriter:
    """Takes the bytes of one output in order. `record` is what became of them, after the block."""

    def __init__(self, quotas: Quotas, owner: Owner, blob: BlobWriter) -> None:
        self._quotas = quotas
        self._owner = owner
        self._blob = blob
        self._sha256 = hashlib.sha256()
        self.counted = 0
        self.record: StoredOutput | None = None

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def sha256(self) -> bytes:
        """Of what was written so far, 32 bytes."""
        return self._sha256.digest()

    async def write(self, data: bytes) -> None:
        """Raises `QuotaExceeded`, `StorageFull`."""
        await self._quotas.grow(self._owner, len(data))
        self.counted += len(data)
        if len(data) > _HASH_BESIDE_BYTES:
            await asyncio.to_thread(self._sha256.update, data)
        else:
            self._sha256.update(data)
        await self._blob.write(data)


class Outputs:
    """The part of `StoredFiles` that concerns outputs."""

    def __init__(self, store: Store, blobs: BlobStore, quotas: Quotas) -> None:
        self._store = store
        self._blobs = blobs
        self._quotas = quotas

    @asynccontextmanager
    async def writer(
        self,
        caller: Owner,
        *,
        output_id: str,
        file_name: str,
        content_type: str,
        width: int,
        height: int,
        expires_at: float,
    ) -> AsyncIterator[OutputWriter]:
        """The output appears when the block ends; an exception leaves nothing new.

        A second output of the same id takes the place of the first. Raises `QuotaExceeded`, `StorageFull`.
        """
        record = StoredOutput(
            output_id, caller.name, time.time(), expires_at, file_name, content_type, width, height
        )
        before = await self._begin(caller, record)
        counted = 0
        try:
            async with self._blobs.writer(
                _path(output_id), content_type=content_type, disposition=disposition(file_name)
            ) as blob:
                writer = OutputWriter(self._quotas, caller, blob)
                try:
                    yield writer
                finally:
                    counted = writer.counted
        except BaseException:  # a cancellation too
            await self._quotas.shrink(caller.name, counted)
            if not before.complete:
                await unbroken(self.delete(output_id))
            raise
        writer.record = await unbroken(self._keep(record, before, writer.size, writer.sha256))

    async def get(self, caller: str | None, output_id: str) -> StoredOutput:
        """An output of this caller, or of any for None. Raises `NotFound`, also for one that has expired."""
        entry = await self._entry(output_id)
        record = None if entry is None else output_from(entry.value)
        if (
            record is None
            or not record.complete
            or caller not in (None, record.caller)
            or record.expires_at <= time.time()
        ):
            raise NotFound("output", output_id)
        return record

    async def read(self, record: StoredOutput, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async for piece in self._blobs.read(_path(record.id), offset):
            yield piece

    async def presign(self, record: StoredOutput, seconds: float) -> str | None:
        """The object store's own URL of the output, None where there is none."""
        return await self._blobs.presign(_path(record.id), seconds)

    async def delete(self, output_id: str) -> None:
        """Everything of an output; to be repeated until it succeeds. That there is none is fine."""
        entry = await self._entry(output_id)
        if entry is None:
            return
        record = output_from(entry.value)
        await self._blobs.delete(_path(output_id))
        await self._quotas.end(record.caller, "out", output_id)
        await drop_expiry(self._store, record.expiry)
        with suppress(VersionChanged):
            await self._store.delete(entry.key, entry.version)

    async def expire(self, output_id: str) -> None:
        """`delete`, if its time is up."""
        entry = await self._entry(output_id)
        if entry is not None and output_from(entry.value).expires_at <= time.time():
            await self.delete(output_id)

    async def _begin(self, caller: Owner, record: StoredOutput) -> StoredOutput:
        """Write down that there will be an output; what is written down now, which may be an earlier one.

        What clears up comes first, so that nothing is ever left that nobody clears up.
        """
        await note_expiry(self._store, record.expiry)
        with suppress(KeyExists):
            await self._store.create(_key(record.id), to_value(record))
        await self._quotas.begin(caller, "out", record.id)
        entry = await self._entry(record.id)
        return record if entry is None else output_from(entry.value)

    async def _keep(
        self, record: StoredOutput, before: StoredOutput, size: int, sha256: bytes
    ) -> StoredOutput:
        done = replace(record, complete=True, size_bytes=size, sha256=sha256)
        try:
            entry = await self._entry(record.id)
            if entry is None:
                await self._store.create(_key(record.id), to_value(done))
            else:
                await self._store.update(entry.key, to_value(done), entry.version)
            if before.expiry != done.expiry:
                await drop_expiry(self._store, before.expiry)
        except DomainError:
            # What has expired takes the bytes with it.
            await self._quotas.shrink(record.caller, size)
            raise
        await self._quotas.settle(record.caller, "out", record.id, size, grown=size)
        return done

    async def _entry(self, output_id: str) -> Entry | None:
        return await self._store.get(_key(output_id)) if is_ulid(output_id) else None


def disposition(file_name: str) -> str:
    """`Content-Disposition` that saves a file under its name, RFC 6266: ASCII alone, and all of it again in
    UTF-8 where it has more."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    if plain == file_name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _key(output_id: str) -> str:
    return f"outputs/{output_id}"


def _path(output_id: str) -> str:
    return f"outputs/{output_id}"
