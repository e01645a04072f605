"""Bytes on their way into an input, made durable in larger pieces than they come in."""

from __future__ import annotations

from upscaled_server.errors import Conflict
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import StoredInput
from upscaled_server.intake.stored_turns import Turn
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.storage.partial import Partial
from upscaled_server.storage.unbroken import unbroken

# Often enough for who resumes, seldom enough for the disk.
_COMMIT_BYTES = 4 << 20


class Writing:
    """One call's part of a file. `committed` bytes of the file are there for good."""

    def __init__(
        self,
        quotas: Quotas,
        owner: Owner,
        record: StoredInput,
        partial: Partial,
        turn: Turn,
        committed: int,
        memory: UploadMemory,
    ) -> None:
        self.record = record
        self.partial = partial
        self.turn = turn
        self.committed = committed
        self._quotas = quotas
        self._owner = owner
        self._memory = memory
        self._grown = 0
        self._waiting = bytearray()

    @property
    def received(self) -> int:
        """Bytes of the file that are there, or in memory."""
        return self.committed + len(self._waiting)

    async def add(self, data: bytes) -> None:
        """Raises `Overloaded` where all uploads hold too much; else as `commit`."""
        self._memory.take(len(data))
        self._waiting += data
        if len(self._waiting) >= _COMMIT_BYTES:
            await unbroken(self._commit())

    async def end(self) -> None:
        """Make the rest durable, and write down how much the file has. Raises `Conflict` if another call has
        the turn, `QuotaExceeded`, `StorageFull`."""
        await unbroken(self._end())

    async def _end(self) -> None:
        try:
            await self._commit()
        finally:
            try:
                async with self.turn.step():
                    await self._quotas.settle(
                        self._owner.name, "in", self.record.id, self.committed, grown=self._grown
                    )
            except Conflict:
                # Whoever has the turn has counted what is there.
                await self._quotas.shrink(self._owner.name, self._grown)
                raise

    async def _commit(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        try:
            async with self.turn.step():
                if data:
                    await self._quotas.grow(self._owner, len(data))
                    self._grown += len(data)
                    await self.partial.append(data)
                    self.committed += len(data)
        finally:
            self._memory.give_back(len(data))
