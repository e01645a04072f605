"""Bytes on their way into an input, made durable in larger pieces than they come in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_progress import InputEntry, Progress
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_turns import Turn, another_goes_on
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.storage.partial import Partial
from upscaled_server.storage.unbroken import unbroken

# Often enough for who resumes, seldom enough for the disk.
_COMMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to write an input: of all calls at this server the one that has the turn, and of all servers
    the one that the record names."""

    turn: Turn
    progress: Progress
    entry: InputEntry

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """One step of writing. Raises `Conflict` if another call goes on with the input."""
        async with self.turn.step():
            if not await self.progress.is_current(self.entry):
                raise another_goes_on()
            yield


class Writing:
    """One call's part of a file. `committed` bytes of the file are there for good."""

    def __init__(
        self,
        quotas: Quotas,
        owner: Owner,
        partial: Partial,
        hold: Hold,
        committed: int,
        memory: UploadMemory,
    ) -> None:
        self.hold = hold
        self.committed = committed
        self._partial = partial
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
        """Make the rest durable, and write down how much the file has. Raises `Conflict` if another call goes
        on with it, `QuotaExceeded`, `StorageFull`."""
        await unbroken(self._end())

    async def _end(self) -> None:
        try:
            await self._commit()
        finally:
            await self._settle()

    async def _settle(self) -> None:
        is_settled = False
        try:
            async with self.hold.step():
                is_settled = True
                input_id = self.hold.entry.record.id
                await self._quotas.settle(self._owner.name, "in", input_id, self.committed, grown=self._grown)
        finally:
            if not is_settled:
                # Whoever goes on has counted what is there.
                await self._quotas.shrink(self._owner.name, self._grown)

    async def _commit(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        try:
            if data:
                async with self.hold.step():
                    await self._quotas.grow(self._owner, len(data))
                    self._grown += len(data)
                    await self._partial.append(data)
                    self.committed += len(data)
        finally:
            self._memory.give_back(len(data))
