"""The files of callers: what they brought, what was made for them, until it expires."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager

from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.stored_inputs import Inputs, WriteStatus
from upscaled_server.intake.stored_outputs import Outputs, OutputWriter
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.intake.stored_records import StoredInput, StoredOutput
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.state.expiry import Expiry
from upscaled_server.state.store import Store
from upscaled_server.storage.blobs import BlobStore


class StoredFiles:
    """Inputs and outputs by id. A file belongs to one caller; to others it does not exist.

    A record in the store goes with the bytes in the storage. Both are made and deleted in steps that can be
    taken up again after any of them; what clears up after a crash is there before the first.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        keeping: KeepingSettings,
        *,
        max_input_bytes: int,
        upload_idle_seconds: float,
        memory: UploadMemory,
    ) -> None:
        self._quotas = Quotas(store, keeping.max_files_per_caller)
        self._inputs = Inputs(
            store,
            blobs,
            self._quotas,
            keeping,
            max_bytes=max_input_bytes,
            idle_seconds=upload_idle_seconds,
            memory=memory,
        )
        self._outputs = Outputs(store, blobs, self._quotas)

    async def follow(self) -> None:
        """Count what other servers that share the store keep for callers, for ever."""
        await self._quotas.follow()

    async def create_input(
        self,
        caller: Owner,
        *,
        request_id: str = "",
        size_bytes: int = 0,
        sha256: bytes = b"",
        retention_seconds: float | None = None,
    ) -> StoredInput:
        """See `Inputs.create`."""
        return await self._inputs.create(
            caller,
            request_id=request_id,
            size_bytes=size_bytes,
            sha256=sha256,
            retention_seconds=retention_seconds,
        )

    async def write_input(
        self, caller: Owner, input_id: str, offset: int, chunks: AsyncIterator[tuple[bytes, bool]]
    ) -> WriteStatus:
        """See `Inputs.write`."""
        return await self._inputs.write(caller, input_id, offset, chunks)

    async def write_status(self, caller: str, input_id: str) -> WriteStatus:
        """How far an input is written, durably. Raises `NotFound`."""
        return await self._inputs.status(caller, input_id)

    async def input(self, caller: str, input_id: str) -> StoredInput:
        """Raises `NotFound`."""
        return await self._inputs.get(caller, input_id)

    def read_input(self, record: StoredInput, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Pieces of at most 1 MiB. Raises `InputIncomplete`."""
        return self._inputs.read(record, offset)

    def new_output(
        self,
        caller: Owner,
        *,
        output_id: str,
        file_name: str,
        content_type: str,
        width: int,
        height: int,
        expires_at: float,
    ) -> AbstractAsyncContextManager[OutputWriter]:
        """See `Outputs.writer`."""
        return self._outputs.writer(
            caller,
            output_id=output_id,
            file_name=file_name,
            content_type=content_type,
            width=width,
            height=height,
            expires_at=expires_at,
        )

    async def output(self, caller: str | None, output_id: str) -> StoredOutput:
        """Raises `NotFound`. None: whoever has the output's signature."""
        return await self._outputs.get(caller, output_id)

    def read_output(self, record: StoredOutput, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Pieces of at most 1 MiB."""
        return self._outputs.read(record, offset)

    async def presign(self, record: StoredOutput, seconds: float) -> str | None:
        """The object store's own URL of an output, None where there is none."""
        return await self._outputs.presign(record, seconds)

    async def delete_input(self, input_id: str) -> None:
        """That there is none is fine."""
        await self._inputs.delete(input_id)

    async def delete_output(self, output_id: str) -> None:
        """That there is none is fine."""
        await self._outputs.delete(output_id)

    async def expire(self, expiry: Expiry) -> None:
        """Delete the file of an entry of `expiry/` if its time is up, and what was left over of it."""
        await (self._inputs if expiry.kind == "in" else self._outputs).expire(expiry)

    async def delete_all_of(self, caller: str) -> int:
        """Delete every file of a caller; how many there were."""
        count = 0
        while files := await self._quotas.files(caller):
            for kind, file_id in files:
                await (self._inputs if kind == "in" else self._outputs).delete(file_id)
                # Where a crash left nothing but the entry.
                await self._quotas.end(caller, kind, file_id)
            count += len(files)
        return count

    async def stored_bytes(self, caller: str) -> int:
        """What a caller's files have together."""
        return await self._quotas.stored_bytes(caller)
