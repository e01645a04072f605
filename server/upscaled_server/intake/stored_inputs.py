"""Inputs: made empty, written resumably, complete once and for all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from upscaled_server.errors import (
    Conflict,
    DataLoss,
    FailedPrecondition,
    InvalidField,
    LimitExceeded,
    NotFound,
    OutOfRange,
)
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_progress import InputEntry, Progress
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import StoredInput, input_from, input_key, input_path, to_value
from upscaled_server.intake.stored_turns import Turn, Turns, another_goes_on
from upscaled_server.intake.stored_writing import Hold, Writing
from upscaled_server.intake.upload import Pace, UploadMemory, check_chunk
from upscaled_server.state import requests
from upscaled_server.state.expiry import Expiry, drop_expiry, note_expiry
from upscaled_server.state.store import KeyExists, Store, VersionChanged
from upscaled_server.state.ulid import is_ulid, new_ulid
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.unbroken import unbroken

_SHA256_BYTES = 32
# How often somebody else may come in between before a call is given up.
_TRIES = 10


class InputComplete(FailedPrecondition):
    """Bytes came for an input that has all of them."""

    reason = "INPUT_COMPLETE"


class InputIncomplete(FailedPrecondition):
    """An input is used before all of it was written."""

    reason = "INPUT_INCOMPLETE"


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """How far an input is written; `sha256` is that of the whole file once it is complete."""

    committed_bytes: int
    complete: bool
    sha256: bytes = b""


class Inputs:
    """The part of `StoredFiles` that concerns inputs."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        quotas: Quotas,
        keeping: KeepingSettings,
        *,
        max_bytes: int,
        idle_seconds: float,
        memory: UploadMemory,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._quotas = quotas
        self._keeping = keeping
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._memory = memory
        self._turns = Turns()
        self._progress = Progress(store, blobs, quotas)

    async def create(
        self,
        caller: Owner,
        *,
        request_id: str,
        size_bytes: int,
        sha256: bytes,
        retention_seconds: float | None,
    ) -> StoredInput:
        """An empty input; the same one for the same `request_id`, unless that is empty.

        Raises `InvalidField`, `AlreadyExists` for another request of this id, `QuotaExceeded`.
        """
        self._check(size_bytes, sha256)
        retention = self._keeping.retention("retention", retention_seconds)
        await self._quotas.check(caller, size_bytes)
        self._blobs.check_room(size_bytes)
        input_id = new_ulid()
        if request_id:
            payload = json.dumps([size_bytes, sha256.hex(), retention_seconds]).encode()
            input_id = await requests.claim(
                self._store,
                caller.name,
                request_id,
                kind="input",
                payload_sha256=hashlib.sha256(payload).hexdigest(),
                new_id=input_id,
            )
        now = time.time()
        record = StoredInput(
            input_id, caller.name, now, now + retention, request_id, size_bytes, announced_sha256=sha256
        )
        # What clears up comes first, so that nothing is ever left that nobody clears up.
        await note_expiry(self._store, record.expiry)
        try:
            await self._store.create(input_key(input_id), to_value(record))
        except KeyExists:
            found = await self.get(caller.name, input_id)
            if found.expiry != record.expiry:
                await drop_expiry(self._store, record.expiry)
            record = found
        await self._quotas.begin(caller, "in", input_id)
        return record

    async def get(self, caller: str, input_id: str) -> StoredInput:
        """Raises `NotFound`, also for what is another caller's or has expired."""
        return (await self._entry(caller, input_id)).record

    async def status(self, caller: str, input_id: str) -> WriteStatus:
        """Raises `NotFound`."""
        async with self._turns.quiet(input_id):
            for _ in range(_TRIES):
                entry = await self._entry(caller, input_id)
                try:
                    entry, committed = await unbroken(self._progress.of(entry))
                except DataLoss:
                    committed = 0
                except Conflict:
                    continue
                # If another writer began meanwhile, the last bytes that were seen may count for nothing.
                if await self._progress.is_current(entry):
                    return _status(entry.record, committed)
        raise another_goes_on()

    async def write(
        self, caller: Owner, input_id: str, offset: int, chunks: AsyncIterator[tuple[bytes, bool]]
    ) -> WriteStatus:
        """Add chunks from `offset` on; what is there already is skipped. The flag says that the file ends.

        What came is kept however the call ends. Raises `NotFound`, `InputComplete`, `OutOfRange`,
        `InvalidField`, `LimitExceeded`, `QuotaExceeded`, `DeadlinePassed` for a stalled upload, `Conflict` if
        another call writes on, and `DataLoss`, after which nothing is there, if the SHA-256 is not the one
        announced.
        """
        if offset < 0:
            raise InvalidField("offset", "must not be negative", limit=0, actual=offset)
        await self.get(caller.name, input_id)
        with self._turns.take(input_id) as turn:
            async with turn.step():
                # Again, now that nobody deletes it at the same time.
                entry = await self._entry(caller.name, input_id)
                entry, committed = await unbroken(self._progress.of(entry))
                if entry.record.complete:
                    raise InputComplete(f"the input {input_id} is complete", input_id=input_id)
                if self._blobs.is_shared:
                    entry, committed = await self._progress.take_over(entry, committed)
                await self._quotas.settle(caller.name, "in", input_id, committed)
            if offset > committed:
                raise OutOfRange(
                    f"offset: {committed} bytes are committed; go on from there (got: {offset})",
                    field="offset",
                    limit=committed,
                    actual=offset,
                )
            partial = self._blobs.partial(input_id, entry.record.fence)
            hold = Hold(turn, self._progress, entry)
            writing = Writing(self._quotas, caller, partial, hold, committed, self._memory)
            try:
                ends = await self._receive(writing, offset, chunks)
            finally:
                # Also for a caller that is gone: it comes back and goes on.
                await writing.end()
            record = await unbroken(self._finished(writing, ends=ends))
            return _status(record, writing.committed)

    async def read(self, record: StoredInput, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Raises `InputIncomplete`."""
        if not record.complete:
            raise InputIncomplete(f"the input {record.id} is not written to its end", input_id=record.id)
        async for piece in self._blobs.read(record.path, offset):
            yield piece

    async def delete(self, input_id: str) -> None:
        """Everything of an input; to be repeated until it succeeds. That there is none is fine."""
        if not is_ulid(input_id):
            return
        with self._turns.take(input_id) as turn:
            await unbroken(self._delete(input_id, turn))

    async def expire(self, expiry: Expiry) -> None:
        """`delete`, if its time is up. If it was deleted before: what came in late goes."""
        entry = await self._store.get(input_key(expiry.id)) if is_ulid(expiry.id) else None
        if entry is None:
            await self._delete_bytes(expiry.id)
            await self._quotas.end(expiry.caller, "in", expiry.id)
        elif input_from(entry.value).expires_at <= time.time():
            await self.delete(expiry.id)

    async def _delete(self, input_id: str, turn: Turn) -> None:
        async with turn.step():
            for _ in range(_TRIES):
                entry = await self._store.get(input_key(input_id))
                if entry is None:
                    return
                record = input_from(entry.value)
                await self._delete_bytes(input_id)
                if record.request_id:
                    await requests.forget(self._store, record.caller, record.request_id, input_id)
                await self._quotas.end(record.caller, "in", input_id)
                with suppress(VersionChanged):
                    await self._store.delete(entry.key, entry.version)
                    # Another server may still be writing; what comes in late goes when the entry is due.
                    if not self._blobs.is_shared:
                        await drop_expiry(self._store, record.expiry)
                    return
            raise another_goes_on()

    async def _delete_bytes(self, input_id: str) -> None:
        await self._blobs.partial(input_id).discard_all()
        if self._blobs.is_shared:
            await self._blobs.delete_all(input_path(input_id))
        else:
            await self._blobs.delete(input_path(input_id))

    async def _receive(
        self, writing: Writing, offset: int, chunks: AsyncIterator[tuple[bytes, bool]]
    ) -> bool:
        """Take the chunks; whether the caller said that the file ends."""
        pace = Pace(self._idle_seconds)
        position = offset
        while (item := await pace.next_of(chunks)) is not None:
            chunk, ends = item
            if chunk or not ends:
                check_chunk("content.data", chunk)
            pace.count(len(chunk))
            self._check_length(writing.hold.entry.record, position + len(chunk))
            fresh = chunk[max(0, writing.received - position) :]
            position += len(chunk)
            await writing.add(fresh)
            if ends and position < writing.received:
                raise InvalidField(
                    "finish", "comes before the end of what is there", limit=writing.received, actual=position
                )
            if ends:
                return True
        return False

    async def _finished(self, writing: Writing, *, ends: bool) -> StoredInput:
        """The record, made complete if all bytes are there."""
        entry = writing.hold.entry
        announced = entry.record.announced_bytes
        if not ends and not (announced and writing.committed == announced):
            return entry.record
        if announced and writing.committed != announced:
            raise InvalidField(
                "size_bytes", "is not the size that was written", limit=announced, actual=writing.committed
            )
        if not writing.committed:
            raise InvalidField("content.data", "an input needs bytes", limit="1 at least", actual=0)
        async with writing.hold.turn.step():
            # Who asked for the status meanwhile may have completed it.
            entry = await self._entry(entry.record.caller, entry.record.id)
            if entry.record.fence != writing.hold.entry.record.fence:
                raise another_goes_on()
            entry, _ = await self._progress.of(entry)
            if not entry.record.complete:
                entry = await self._progress.seal(entry)
            return entry.record

    async def _entry(self, caller: str, input_id: str) -> InputEntry:
        """Raises `NotFound`, also for what is another caller's or has expired."""
        entry = await self._store.get(input_key(input_id)) if is_ulid(input_id) else None
        if entry is not None:
            found = InputEntry(input_from(entry.value), entry.version)
            if found.record.caller == caller and found.record.expires_at > time.time():
                return found
        raise NotFound("input", input_id)

    def _check(self, size_bytes: int, sha256: bytes) -> None:
        if not 0 <= size_bytes <= self._max_bytes:
            raise InvalidField(
                "size_bytes",
                "is out of range",
                limit=f"0 to {self._max_bytes} bytes",
                actual=f"{size_bytes} bytes",
            )
        if sha256 and len(sha256) != _SHA256_BYTES:
            raise InvalidField("sha256", "must be 32 bytes, or left out", limit=32, actual=len(sha256))

    def _check_length(self, record: StoredInput, length: int) -> None:
        if record.announced_bytes and length > record.announced_bytes:
            raise InvalidField(
                "content.data", "goes beyond the announced size", limit=record.announced_bytes, actual=length
            )
        if length > self._max_bytes:
            raise LimitExceeded(
                "content.data", "the input is too large", limit=self._max_bytes, actual=length, unit="bytes"
            )


def _status(record: StoredInput, committed: int) -> WriteStatus:
    return WriteStatus(committed, record.complete, record.sha256)


def _key(input_id: str) -> str:
    return f"inputs/{input_id}"
