"""`Upscaler`: an image in, the enlarged image out, while the caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import grpc.aio
from google.api import httpbody_pb2

from upscaled.v1 import result_pb2, upscaler_pb2, upscaler_pb2_grpc
from upscaled_server.api import caller, translate, upscale_file
from upscaled_server.api.drain import drain
from upscaled_server.api.stored_outputs import StoredOutputs
from upscaled_server.errors import (
    CallerGone,
    DeadlinePassed,
    DomainError,
    InlineTooLarge,
    InvalidField,
)
from upscaled_server.pipeline import events
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Chunks, Request, Source
from upscaled_server.pipeline.storing import Target, run_stored
from upscaled_server.pipeline.upscale import Upscaling
from upscaled_server.telemetry import tracing
from upscaled_server.telemetry.tracing import Activity

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
StreamRequests = AsyncIterator[upscaler_pb2.UpscaleStreamRequest]

Sent: TypeAlias = "result_pb2.UpscaleEvent | httpbody_pb2.HttpBody"

_T = TypeVar("_T")


class UpscalerServicer(upscaler_pb2_grpc.UpscalerServicer):
    """Streams are written with `context.write` instead of yielded, so that one deadline covers work and
    writing."""

    def __init__(
        self, upscaling: Upscaling, limits: LimitSettings, version: str, stored: StoredOutputs
    ) -> None:
        self._upscaling = upscaling
        self._limits = limits
        self._version = version
        self._stored = stored

    async def Upscale(
        self, message: upscaler_pb2.UpscaleRequest, context: Context
    ) -> result_pb2.UpscaleResult:
        deadline = self._deadline(context)
        async with deadline.enforced():
            return await self._answer(_to_request(message), deadline)

    async def UpscaleTiles(  # type: ignore[override]  # it writes instead of yielding
        self, message: upscaler_pb2.UpscaleTilesRequest, context: Context
    ) -> None:
        deadline = self._deadline(context)
        async with deadline.enforced():
            await self._write_events(replace(_to_request(message), streamed=True), deadline, context)

    async def UpscaleStream(  # type: ignore[override]  # it writes instead of yielding
        self, messages: StreamRequests, context: Context
    ) -> None:
        deadline = self._deadline(context)
        try:
            async with deadline.enforced():
                request = await self._to_stream_request(messages)
                await self._write_events(request, deadline, context)
        except DomainError:
            await drain(messages)
            raise

    async def UpscaleFile(  # type: ignore[override]  # it writes instead of yielding
        self, messages: upscale_file.FileRequests, context: Context
    ) -> None:
        deadline = self._deadline(context)
        try:
            async with deadline.enforced():
                iterator = aiter(messages)
                first = await self._soon(anext(iterator, None), "no image came")
                if first is None:
                    raise InvalidField("content", "is missing", limit="an image", actual="nothing")
                upscale_file.check_options(first)
                result = await self._answer(
                    _request(Chunks(upscale_file.pieces(first, iterator)), first), deadline
                )
                await context.send_initial_metadata(upscale_file.metadata(result))
                for body in upscale_file.bodies(result):
                    await self._write(body, context)
        except DomainError:
            await drain(messages)
            raise

    async def _answer(self, request: Request, deadline: Deadline) -> result_pb2.UpscaleResult:
        data = bytearray()
        done = None
        target = self._stored.target_of(request)
        async with aclosing(self._run(request, deadline, target)) as stream:
            async for event in stream:
                if isinstance(event, events.Chunk):
                    self._check_inline(len(data) + len(event.data))
                    data += event.data
                elif isinstance(event, events.Done):
                    done = event
        if done is None:
            raise RuntimeError("the pipeline ended without Done")
        result = translate.from_done(
            done, request_id=request.request_id, server_version=self._version, data=bytes(data)
        )
        self._stored.add_address(result, target)
        return result

    async def _write_events(self, request: Request, deadline: Deadline, context: Context) -> None:
        target = self._stored.target_of(request)
        sending = Activity("send", tracing.current())
        async with aclosing(self._run(request, deadline, target)) as stream:
            async for event in stream:
                message = translate.from_event(
                    event, request_id=request.request_id, server_version=self._version
                )
                self._stored.add_address(message.done, target)
                with sending.during():
                    await self._write(message, context)
        sending.end()

    def _run(
        self, request: Request, deadline: Deadline, target: Target | None
    ) -> AsyncGenerator[events.Event, None]:
        if target is None:
            return self._upscaling.run(request, deadline)
        return run_stored(self._upscaling, self._stored.outputs, request, deadline, target)

    async def _write(
        self, message: result_pb2.UpscaleEvent | httpbody_pb2.HttpBody, context: Context
    ) -> None:
        """Give the caller one event. It may take its time, but not for ever: what it holds back is
        finished rows."""
        idle = self._limits.reader_idle_seconds
        try:
            async with asyncio.timeout(idle) as waiting:
                await context.write(message)
        except TimeoutError:
            if not waiting.expired():
                raise
            raise CallerGone(f"nothing was read for {idle:g} seconds", reader_idle_seconds=idle) from None
        except (grpc.aio.InternalError, grpc.aio.UsageError):
            raise CallerGone("the caller left before the end of the answer") from None

    def _check_inline(self, size: int) -> None:
        if size > self._limits.max_inline_bytes:
            raise InlineTooLarge(
                "outputs.data",
                "the encoded file is too large for one answer; ask for DELIVERY_URL or use UpscaleStream",
                limit=self._limits.max_inline_bytes,
                actual=size,
                unit="bytes",
            )

    def _deadline(self, context: Context) -> Deadline:
        remaining = context.time_remaining()
        longest = self._limits.max_call_seconds
        return Deadline.after(longest if remaining is None else min(remaining, longest))

    async def _to_stream_request(self, messages: StreamRequests) -> Request:
        iterator = aiter(messages)
        first = await self._soon(anext(iterator, None), "no start message came")
        kind = "nothing" if first is None else _kind(first)
        if first is None or kind != "start":
            raise InvalidField("start", "must be the first message", limit="one, first", actual=kind)
        source: Source
        if first.start.HasField("source"):
            source = translate.to_source(first.start.source, "start.source")
            await self._soon(_refuse_more(iterator), "a start that names a source must end the caller's side")
        else:
            source = Chunks(_chunks(iterator), announced_bytes=first.start.size_bytes)
        return replace(_request(source, first.start), streamed=True)

    async def _soon(self, waiting: Awaitable[_T], problem: str) -> _T:
        """What the caller owes us now; `DeadlinePassed` with this problem if it does not come."""
        idle = self._limits.upload_idle_seconds
        try:
            async with asyncio.timeout(idle) as timeout:
                return await waiting
        except TimeoutError:
            if not timeout.expired():
                raise
            raise DeadlinePassed(f"{problem} within {idle:g} seconds", upload_idle_seconds=idle) from None


def _to_request(message: upscaler_pb2.UpscaleRequest | upscaler_pb2.UpscaleTilesRequest) -> Request:
    source = translate.to_source(message.source)
    # The message lives as long as the call: without this, so would the encoded image.
    message.source.Clear()
    return _request(source, message)


def _request(
    source: Source,
    message: upscaler_pb2.UpscaleRequest
    | upscaler_pb2.UpscaleTilesRequest
    | upscaler_pb2.UpscaleStart
    | upscaler_pb2.UpscaleFileRequest,
) -> Request:
    request_id = translate.to_request_id(message.request_id)
    caller.name_request(request_id)
    return Request(
        source,
        translate.to_options(message.options),
        request_id,
        getattr(message, "validate_only", False),
        caller.identity.get().caller,
    )


async def _refuse_more(rest: StreamRequests) -> None:
    async for _ in rest:
        raise InvalidField("chunk", "may not follow a start that names a source", limit=0, actual=1)


async def _chunks(messages: StreamRequests) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise InvalidField(
                "part",
                "must be a chunk after the start",
                limit="one start, then chunks",
                actual=_kind(message),
            )
        yield message.chunk


def _kind(message: upscaler_pb2.UpscaleStreamRequest) -> str:
    return message.WhichOneof("part") or "an empty message"
