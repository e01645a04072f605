"""How far an input is, and its last step: from bytes that were written to a file that is complete."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from upscaled_server.errors import Conflict, DataLoss, NotFound
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import StoredInput, input_from, input_key, input_path, to_value
from upscaled_server.intake.stored_turns import another_goes_on
from upscaled_server.state.store import Store, VersionChanged
from upscaled_server.state.ulid import new_ulid
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.partial import Moved, Partial


@dataclass(frozen=True, slots=True)
class InputEntry:
    """A record, and the version at which it was read or written."""

    record: StoredInput
    version: int


class Progress:
    """What is there of inputs. Every change is based on the version of the record that was read, so of two
    servers that go on with one input only one does."""

    def __init__(self, store: Store, blobs: BlobStore, quotas: Quotas) -> None:
        self._store = store
        self._blobs = blobs
        self._quotas = quotas

    async def of(self, entry: InputEntry) -> tuple[InputEntry, int]:
        """The record and the bytes that are there. What a server that was killed had not come to after the
        last byte is done now. Raises `DataLoss` as `seal` does, `Conflict`, `NotFound`."""
        record = entry.record
        if record.complete:
            return entry, record.size_bytes
        if not self._blobs.is_shared and (size := await self._blobs.size(record.path)) is not None:
            moved = Moved(size, await _sha256(self._blobs.read(record.path)))
            return await self._complete(entry, record.kept, moved), size
        size = await self._partial(record).size()
        if record.announced_bytes and size == record.announced_bytes:
            entry = await self.seal(entry)
        return entry, size

    async def seal(self, entry: InputEntry) -> InputEntry:
        """Make the bytes that were written the input. Raises `DataLoss` if they are not what was
        announced; nothing is there then. Raises `Conflict` if another call goes on with it, `NotFound`.

        Several servers may do so at once, each in a place of its own; the first that writes it down counts.
        """
        record = entry.record
        kept = new_ulid() if self._blobs.is_shared else ""
        path = input_path(record.id, kept)
        try:
            moved = await self._partial(record).move_to(path, expected=record.announced_sha256)
        except NotFound:
            # Whoever came to the end before has removed what it is made of.
            return await self._completed_by_another(record)
        except DataLoss:
            try:
                await self._start_again(entry)
            except Conflict:
                return await self._completed_by_another(record)
            raise
        return await self._complete(entry, kept, moved)

    async def take_over(self, entry: InputEntry, committed: int) -> tuple[InputEntry, int]:
        """Become the writer, behind the bytes that are there; from then on those of writers before count for
        nothing. Raises `Conflict` if another call does so at the same time."""
        earlier = self._partial(entry.record)
        while True:
            record = entry.record
            entry = await self._changed(entry, replace(record, writer=record.writer + 1, base=committed))
            # What came in between counts too: whoever asked may have been told of it.
            now = await earlier.size()
            if now == committed:
                return entry, committed
            committed = now

    async def is_current(self, entry: InputEntry) -> bool:
        """Whether nobody else has become the writer since the record was read."""
        if not self._blobs.is_shared:
            return True
        found = await self._now(entry.record.id)
        return found is not None and found.record.fence == entry.record.fence

    async def _start_again(self, entry: InputEntry) -> None:
        record = entry.record
        if self._blobs.is_shared:
            await self._changed(entry, replace(record, writer=record.writer + 1, base=0))
        await self._partial(record).discard()
        await self._quotas.settle(record.caller, "in", record.id, 0)

    async def _complete(self, entry: InputEntry, kept: str, moved: Moved) -> InputEntry:
        record = entry.record
        done = replace(record, complete=True, kept=kept, size_bytes=moved.size, sha256=moved.sha256)
        try:
            entry = await self._changed(entry, done)
        except Conflict:
            await self._blobs.delete(done.path)
            return await self._completed_by_another(record)
        await self._partial(record).discard()
        await self._quotas.settle(record.caller, "in", record.id, moved.size)
        return entry

    async def _completed_by_another(self, record: StoredInput) -> InputEntry:
        """The same input, if somebody else came to the same end. Raises `Conflict` and `NotFound` where it
        did not."""
        found = await self._now(record.id)
        if found is None:
            raise NotFound("input", record.id)
        if not found.record.complete or found.record.fence != record.fence:
            raise another_goes_on()
        return found

    async def _changed(self, entry: InputEntry, record: StoredInput) -> InputEntry:
        """Raises `Conflict` if it was changed by anybody else."""
        try:
            version = await self._store.update(input_key(record.id), to_value(record), entry.version)
        except VersionChanged:
            raise another_goes_on() from None
        return InputEntry(record, version)

    async def _now(self, input_id: str) -> InputEntry | None:
        found = await self._store.get(input_key(input_id))
        return None if found is None else InputEntry(input_from(found.value), found.version)

    def _partial(self, record: StoredInput) -> Partial:
        return self._blobs.partial(record.id, record.fence)


async def _sha256(pieces: AsyncIterator[bytes]) -> bytes:
    found = hashlib.sha256()
    async for piece in pieces:
        await asyncio.to_thread(found.update, piece)
    return found.digest()
