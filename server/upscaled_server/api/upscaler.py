"""`Upscaler`: an image in, the enlarged image out, while the caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

import grpc.aio

from upscaled.v1 import options_pb2, result_pb2, upscaler_pb2, upscaler_pb2_grpc
from upscaled_server.api import translate
from upscaled_server.errors import DeadlinePassed, DomainError, InvalidField, LimitExceeded
from upscaled_server.pipeline import events
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Bytes, Chunks, Request
from upscaled_server.pipeline.upscale import Upscaling

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
StreamRequests = AsyncIterator[upscaler_pb2.UpscaleStreamRequest]

_DRAIN_SECONDS = 2.0


class InlineTooLarge(LimitExceeded):
    """The encoded file does not fit a unary answer; a stream or a stored output has no such limit."""

    reason = "INLINE_TOO_LARGE"


class UpscalerServicer(upscaler_pb2_grpc.UpscalerServicer):
    """Streams are written with `context.write` instead of yielded, so that one deadline covers work and
    writing."""

    def __init__(self, upscaling: Upscaling, limits: LimitSettings, version: str) -> None:
        self._upscaling = upscaling
        self._limits = limits
        self._version = version

    async def Upscale(
        self, message: upscaler_pb2.UpscaleRequest, context: Context
    ) -> result_pb2.UpscaleResult:
        deadline = self._deadline(context)
        async with deadline.enforced():
            return await self._answer(_to_request(message), deadline)

    async def UpscaleTiles(  # type: ignore[override]
        self, message: upscaler_pb2.UpscaleTilesRequest, context: Context
    ) -> None:
        deadline = self._deadline(context)
        async with deadline.enforced():
            await self._write_events(_to_request(message), deadline, context)

    async def UpscaleStream(  # type: ignore[override]
        self, messages: StreamRequests, context: Context
    ) -> None:
        deadline = self._deadline(context)
        try:
            async with deadline.enforced():
                request = await self._to_stream_request(messages)
                await self._write_events(request, deadline, context)
        except DomainError:
            await _drain(messages)
            raise

    async def _answer(self, request: Request, deadline: Deadline) -> result_pb2.UpscaleResult:
        data = bytearray()
        done = None
        async with aclosing(self._upscaling.run(request, deadline)) as stream:
            async for event in stream:
                if isinstance(event, events.Chunk):
                    self._check_inline(len(data) + len(event.data))
                    data += event.data
                elif isinstance(event, events.Done):
                    done = event
        if done is None:
            raise RuntimeError("the pipeline ended without Done")
        return translate.from_done(
            done, request_id=request.request_id, server_version=self._version, data=bytes(data)
        )

    async def _write_events(self, request: Request, deadline: Deadline, context: Context) -> None:
        async with aclosing(self._upscaling.run(request, deadline)) as stream:
            async for event in stream:
                message = translate.from_event(
                    event, request_id=request.request_id, server_version=self._version
                )
                await context.write(message)

    def _check_inline(self, size: int) -> None:
        if size > self._limits.max_inline_bytes:
            raise InlineTooLarge(
                "outputs.data",
                "the encoded file is too large for one answer; use UpscaleStream",
                limit=self._limits.max_inline_bytes,
                actual=f"at least {size}",
                unit="bytes",
            )

    def _deadline(self, context: Context) -> Deadline:
        remaining = context.time_remaining()
        longest = self._limits.max_call_seconds
        return Deadline.after(longest if remaining is None else min(remaining, longest))

    async def _to_stream_request(self, messages: StreamRequests) -> Request:
        iterator = aiter(messages)
        try:
            async with asyncio.timeout(self._limits.upload_idle_seconds):
                first = await anext(iterator, None)
                kind = "nothing" if first is None else first.WhichOneof("part") or "an empty message"
                if first is None or kind != "start":
                    raise InvalidField("start", "must be the first message", limit="one, first", actual=kind)
                start = first.start
                source: Bytes | Chunks
                if start.HasField("source"):
                    source = await _named_source(start.source, iterator)
                else:
                    source = Chunks(_chunks(iterator), announced_bytes=start.size_bytes)
        except TimeoutError:
            raise DeadlinePassed(
                "no start message came", upload_idle_seconds=self._limits.upload_idle_seconds
            ) from None
        return Request(
            source=source,
            options=translate.to_options(start.options),
            request_id=translate.to_request_id(start.request_id),
            validate_only=start.validate_only,
        )


def _to_request(message: upscaler_pb2.UpscaleRequest | upscaler_pb2.UpscaleTilesRequest) -> Request:
    return Request(
        source=translate.to_bytes(message.source),
        options=translate.to_options(message.options),
        request_id=translate.to_request_id(message.request_id),
        validate_only=message.validate_only,
    )


async def _drain(messages: StreamRequests) -> None:
    """Read on until the caller stops sending, for a bounded time.

    A grpcio asyncio client whose write meets a call that has just ended reports INTERNAL instead of the
    status it was sent (grpc/grpc#36066), so the status waits until nothing more is on its way.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in messages:
                pass


async def _named_source(source: options_pb2.Source, rest: StreamRequests) -> Bytes:
    image = translate.to_bytes(source, "start.source")
    async for _ in rest:
        raise InvalidField("chunk", "may not follow a start that names a source", limit=0, actual=1)
    return image


async def _chunks(messages: StreamRequests) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise InvalidField("start", "may come only once", limit=1, actual=2)
        yield message.chunk
