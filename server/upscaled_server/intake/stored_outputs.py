"""Outputs: written once from beginning to end, visible when whole, with size and SHA-256 known."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import quote

from upscaled_server.errors import Conflict, DomainError, NotFound
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import (
    StoredOutput,
    output_from,
    output_path,
    outputs_folder,
    to_value,
)
from upscaled_server.state.expiry import Expiry, drop_expiry, note_expiry
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged
from upscaled_server.state.ulid import is_ulid, new_ulid
from upscaled_server.storage.blobs import BlobStore, BlobWriter
from upscaled_server.storage.unbroken import unbroken

log = logging.getLogger(__name__)

# How often somebody else may come in between before a change is given up.
_TRIES = 10

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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One that began: what it is to make, the record's version from then on, and what was there before."""

    record: StoredOutput
    version: int
    before: StoredOutput | None


class Outputs:
    """The part of `StoredFiles` that concerns outputs.

    Several attempts at one output may be under way: a process that was given up comes back. Each writes a
    file of its own, and the record says who began last; only that one can finish, as it changes the record at
    the version at which it began. Whatever file the record does not name is nobody's.
    """

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

        A second output of the same id takes the place of the first; whoever writes it begins last. Raises
        `QuotaExceeded`, `StorageFull`, and `Conflict` if the output was deleted, or begun by somebody else,
        meanwhile.
        """
        attempt = await self._begin(
            StoredOutput(
                output_id,
                caller.name,
                time.time(),
                expires_at,
                file_name,
                content_type,
                width,
                height,
                writer=new_ulid(),
            )
        )
        counted = 0
        try:
            await self._quotas.begin(caller, "out", output_id)
            async with self._blobs.writer(
                output_path(output_id, attempt.record.writer),
                content_type=content_type,
                disposition=disposition(file_name),
                is_new=True,
            ) as blob:
                writer = OutputWriter(self._quotas, caller, blob)
                try:
                    yield writer
                finally:
                    counted = writer.counted
        except BaseException:  # a cancellation too
            await self._quotas.shrink(caller.name, counted)
            await unbroken(self._give_up(attempt))
            raise
        writer.record = await unbroken(self._keep(attempt, writer.size, writer.sha256))

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
        async for piece in self._blobs.read(record.path, offset):
            yield piece

    async def presign(self, record: StoredOutput, seconds: float) -> str | None:
        """The object store's own URL of the output, None where there is none."""
        return await self._blobs.presign(record.path, seconds)

    async def delete(self, output_id: str) -> None:
        """Everything of an output; to be repeated until it succeeds. That there is none is fine.

        Whoever is writing it can no longer finish.
        """
        for _ in range(_TRIES):
            entry = await self._entry(output_id)
            if entry is None:
                return
            record = output_from(entry.value)
            await self._blobs.delete_all(outputs_folder(output_id))
            await self._quotas.end(record.caller, "out", output_id)
            with suppress(VersionChanged):
                await self._store.delete(entry.key, entry.version)
                if not self._may_leave_more(record):
                    await drop_expiry(self._store, record.expiry)
                return
        raise _lost(output_id)

    async def expire(self, expiry: Expiry) -> None:
        """`delete`, if the output's time is up. Else the entry is one that an attempt left which was given
        up: what else it left goes."""
        entry = await self._entry(expiry.id)
        if entry is not None and output_from(entry.value).expires_at <= time.time():
            await self.delete(expiry.id)
        elif is_ulid(expiry.id):
            await self._remove_strays(expiry.id)
            if entry is None:
                await self._quotas.end(expiry.caller, "out", expiry.id)

    async def _begin(self, record: StoredOutput) -> _Attempt:
        """Write down that there will be an output, and who makes it.

        What clears up comes first, so that nothing is ever left that nobody clears up.
        """
        await note_expiry(self._store, record.expiry)
        key = _key(record.id)
        for _ in range(_TRIES):
            with suppress(KeyExists):
                return _Attempt(record, await self._store.create(key, to_value(record)), None)
            if (entry := await self._store.get(key)) is None:
                continue
            before = output_from(entry.value)
            # A complete one stays as it is until the next is.
            claim = replace(before, writer=record.writer) if before.complete else record
            with suppress(VersionChanged):
                version = await self._store.update(key, to_value(claim), entry.version)
                return _Attempt(record, version, before)
        raise _lost(record.id)

    async def _keep(self, attempt: _Attempt, size: int, sha256: bytes) -> StoredOutput:
        record, before = attempt.record, attempt.before
        done = replace(record, complete=True, kept=record.writer, size_bytes=size, sha256=sha256)
        try:
            await self._store.update(_key(record.id), to_value(done), attempt.version)
        except VersionChanged:
            await self._quotas.shrink(record.caller, size)
            await self._give_up(attempt)
            raise _lost(record.id) from None
        except DomainError:
            # What has expired takes the bytes with it.
            await self._quotas.shrink(record.caller, size)
            raise
        await self._quotas.settle(record.caller, "out", record.id, size, grown=size)
        if before is not None:
            await self._replaced(before, done)
        return done

    async def _replaced(self, before: StoredOutput, done: StoredOutput) -> None:
        """Remove what there was before."""
        try:
            await self._remove_strays(done.id)
            if before.expiry != done.expiry and not self._may_leave_more(before):
                await drop_expiry(self._store, before.expiry)
        except DomainError as error:
            _log_left_over(done.id, error)

    async def _give_up(self, attempt: _Attempt) -> None:
        """Remove what an attempt has made, and nothing of any other. What cannot be removed now goes when the
        attempt's entry of `expiry/` is due."""
        record, before = attempt.record, attempt.before
        try:
            await self._blobs.delete(output_path(record.id, record.writer))
            entry = await self._entry(record.id)
            if entry is None or entry.version != attempt.version:
                return
            if before is not None and before.complete:
                if before.expiry != record.expiry:
                    await drop_expiry(self._store, record.expiry)
            else:
                with suppress(VersionChanged):
                    await self._store.delete(entry.key, entry.version)
                    await self._quotas.end(record.caller, "out", record.id)
                    await self._remove_strays(record.id)
                    await drop_expiry(self._store, record.expiry)
        except DomainError as error:
            _log_left_over(record.id, error)

    async def _remove_strays(self, output_id: str) -> None:
        """Files of attempts that can no longer finish. Listed before the record is read: who begins later is
        not among them."""
        paths = [path async for path in self._blobs.list(outputs_folder(output_id))]
        entry = await self._entry(output_id)
        if entry is not None:
            record = output_from(entry.value)
            for writer in (record.kept, record.writer):
                with suppress(ValueError):
                    paths.remove(output_path(output_id, writer))
        for path in paths:
            await self._blobs.delete(path)

    def _may_leave_more(self, record: StoredOutput) -> bool:
        """Whether an attempt that was given up may still be writing, at another server. Then its entry of
        `expiry/` stays."""
        return self._blobs.is_shared and not record.complete

    async def _entry(self, output_id: str) -> Entry | None:
        return await self._store.get(_key(output_id)) if is_ulid(output_id) else None


def _log_left_over(output_id: str, error: DomainError) -> None:
    log.warning("what is left of output %s goes when it expires: %s", output_id, error.message)


def _lost(output_id: str) -> Conflict:
    return Conflict(f"the output {output_id} was deleted, or begun by somebody else, meanwhile")


def disposition(file_name: str) -> str:
    """`Content-Disposition` that saves a file under its name, RFC 6266: ASCII alone, and all of it again in
    UTF-8 where it has more."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    if plain == file_name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _key(output_id: str) -> str:
    return f"outputs/{output_id}"
