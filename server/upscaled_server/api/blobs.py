"""`Blobs`: files in and out, resumably, and URLs that expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio
from google.api import httpbody_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from upscaled.v1 import blobs_pb2, blobs_pb2_grpc
from upscaled_server.api import caller, translate
from upscaled_server.api.drain import drain
from upscaled_server.errors import CallerGone, DomainError, InvalidField, OutOfRange, Overloaded
from upscaled_server.intake.signing import (
    DEFAULT_LIFETIME_SECONDS,
    MAX_LIFETIME_SECONDS,
    UrlSigner,
    signed_url,
)
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.stored_inputs import WriteStatus
from upscaled_server.intake.stored_outputs import disposition
from upscaled_server.intake.stored_records import StoredInput, StoredOutput
from upscaled_server.intake.upload import Pace
from upscaled_server.pipeline.limits import LimitSettings

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Writes = AsyncIterator[blobs_pb2.WriteInputRequest]

# Each holds a piece of 1 MiB, and perhaps waits for a slow reader.
_MAX_DOWNLOADS = 256
# Of a message that waits for its reader there are three copies by the time that it is in gRPC's hands.
_MESSAGE_BYTES = 256 << 10
_LARGEST_EXPIRES = 2**53


class BlobsServicer(blobs_pb2_grpc.BlobsServicer):
    def __init__(self, files: StoredFiles, signer: UrlSigner, limits: LimitSettings) -> None:
        self._files = files
        self._signer = signer
        self._limits = limits
        self._downloads = 0

    async def CreateInput(self, message: blobs_pb2.CreateInputRequest, context: Context) -> blobs_pb2.Input:
        retention = (
            translate.to_seconds("retention", message.retention) if message.HasField("retention") else None
        )
        record = await self._files.create_input(
            caller.identity.get().caller,
            request_id=translate.to_request_id(message.request_id),
            size_bytes=message.size_bytes,
            sha256=message.sha256,
            retention_seconds=retention,
        )
        return _to_input(record)

    async def WriteInput(self, messages: Writes, context: Context) -> blobs_pb2.WriteStatus:
        try:
            first = await Pace(self._limits.upload_idle_seconds).next_of(messages)
            if first is None or not first.input_id:
                raise InvalidField("input_id", "is needed in the first message", limit="an id", actual="none")
            status = await self._files.write_input(
                caller.identity.get().caller, first.input_id, first.offset, _chunks(first, messages)
            )
        except DomainError:
            await drain(messages)
            raise
        return _to_status(status)

    async def QueryWriteStatus(
        self, message: blobs_pb2.QueryWriteStatusRequest, context: Context
    ) -> blobs_pb2.WriteStatus:
        name = caller.identity.get().caller.name
        return _to_status(await self._files.write_status(name, _needed("input_id", message.input_id)))

    async def DownloadOutput(  # type: ignore[override]  # it writes instead of yielding
        self, message: blobs_pb2.DownloadOutputRequest, context: Context
    ) -> None:
        record = await self._downloadable(message)
        if message.offset < 0:
            raise InvalidField("offset", "must not be negative", limit=0, actual=message.offset)
        if message.offset > record.size_bytes:
            raise OutOfRange(
                f"offset: the output has {record.size_bytes} bytes (got: {message.offset})",
                field="offset",
                limit=record.size_bytes,
                actual=message.offset,
            )
        if self._downloads >= _MAX_DOWNLOADS:
            raise Overloaded("too many downloads at once", retry_after_seconds=1.0, limit=_MAX_DOWNLOADS)
        self._downloads += 1
        try:
            await self._send(record, message.offset, context)
        finally:
            self._downloads -= 1

    async def SignOutput(
        self, message: blobs_pb2.SignOutputRequest, context: Context
    ) -> blobs_pb2.SignOutputResponse:
        seconds = DEFAULT_LIFETIME_SECONDS
        if message.HasField("lifetime"):
            seconds = translate.to_seconds("lifetime", message.lifetime)
        if not 1 <= seconds <= MAX_LIFETIME_SECONDS:
            raise InvalidField(
                "lifetime",
                "is out of range",
                limit=f"1 to {MAX_LIFETIME_SECONDS:g} s",
                actual=f"{seconds:g} s",
            )
        name = caller.identity.get().caller.name
        record = await self._files.output(name, _needed("output_id", message.output_id))
        url, until = await signed_url(self._files, self._signer, record, seconds)
        return blobs_pb2.SignOutputResponse(url=url, expire_time=_timestamp(until))

    async def _downloadable(self, message: blobs_pb2.DownloadOutputRequest) -> StoredOutput:
        """The output, if the caller owns it or has its signature. Without a key, and without a signature, no
        call comes here."""
        output_id = _needed("output_id", message.output_id)
        if not message.signature:
            return await self._files.output(caller.identity.get().caller.name, output_id)
        if not 0 < message.expires < _LARGEST_EXPIRES:
            raise InvalidField("expires", "goes with the signature", limit="seconds", actual=message.expires)
        self._signer.verify(output_id, message.expires, message.signature)
        return await self._files.output(None, output_id)

    async def _send(self, record: StoredOutput, offset: int, context: Context) -> None:
        await context.send_initial_metadata(
            (
                ("x-upscaled-size-bytes", str(record.size_bytes)),
                ("x-upscaled-sha256", record.sha256.hex()),
                ("content-disposition", disposition(record.file_name)),
            )
        )
        async with aclosing(self._files.read_output(record, offset)) as pieces:
            async for piece in pieces:
                for begin in range(0, len(piece), _MESSAGE_BYTES):
                    data = piece[begin : begin + _MESSAGE_BYTES]
                    body = httpbody_pb2.HttpBody(content_type=record.content_type, data=data)
                    await self._write(body, context)

    async def _write(self, body: httpbody_pb2.HttpBody, context: Context) -> None:
        idle = self._limits.reader_idle_seconds
        try:
            async with asyncio.timeout(idle) as waiting:
                await context.write(body)
        except TimeoutError:
            if not waiting.expired():
                raise
            raise CallerGone(f"nothing was read for {idle:g} seconds", reader_idle_seconds=idle) from None
        except (grpc.aio.InternalError, grpc.aio.UsageError):
            raise CallerGone("the caller left before the end of the answer") from None


async def _chunks(first: blobs_pb2.WriteInputRequest, rest: Writes) -> AsyncIterator[tuple[bytes, bool]]:
    yield first.content.data, first.finish
    async for message in rest:
        if message.input_id not in ("", first.input_id):
            raise InvalidField(
                "input_id", "must stay the same", limit=first.input_id, actual=ascii(message.input_id[:80])
            )
        yield message.content.data, message.finish


def _needed(field: str, value: str) -> str:
    if not value:
        raise InvalidField(field, "is needed", limit="an id", actual="none")
    return value


def _to_input(record: StoredInput) -> blobs_pb2.Input:
    return blobs_pb2.Input(
        id=record.id,
        create_time=_timestamp(record.created_at),
        expire_time=_timestamp(record.expires_at),
    )


def _to_status(status: WriteStatus) -> blobs_pb2.WriteStatus:
    return blobs_pb2.WriteStatus(
        committed_size_bytes=status.committed_bytes, complete=status.complete, sha256=status.sha256
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp
