"""One attempt at `UpscaleStream`: chunks up, events down, and the proof that the file is whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from upscaled._aio.proof import FileCheck
from upscaled._aio.transport import Transport
from upscaled._errors import BrokenStreamError, ServerError, UnavailableError, UpscaledError
from upscaled._retry import Deadline
from upscaled._uploads import Upload
from upscaled.v1 import options_pb2, result_pb2, server_pb2, upscaler_pb2

# What grpc says of a failed write, without having heard from the server.
LOCAL_FAILURE = "Internal error from Core"
_ASK_SECONDS = 5.0


async def attempt(
    transport: Transport, start: upscaler_pb2.UpscaleStart, upload: Upload | None, deadline: Deadline
) -> AsyncGenerator[result_pb2.UpscaleEvent, None]:
    """The events of one call. `done` is held back until the status is OK and the bytes are proven.

    Closing the generator, at any point, cancels the rpc.
    """
    try:
        async with contextlib.aclosing(_events(transport, start, upload, deadline)) as events:
            async for event in events:
                yield event
    except ServerError as error:
        await _raise_what_is_behind(error, transport, deadline)
        raise


async def _events(
    transport: Transport, start: upscaler_pb2.UpscaleStart, upload: Upload | None, deadline: Deadline
) -> AsyncGenerator[result_pb2.UpscaleEvent, None]:
    check = FileCheck()
    done: result_pb2.UpscaleEvent | None = None
    with transport.errors(start.request_id):
        call = transport.upscaler.UpscaleStream(timeout=deadline.left(), metadata=transport.metadata)
        sender = asyncio.create_task(_send(call, start, upload))
        try:
            async for event in call:
                kind = event.WhichOneof("event")
                if kind == "done":
                    done = event
                elif kind is not None:
                    if kind == "plan":
                        check.expect(event.plan)
                    elif kind == "chunk":
                        check.add(event.chunk)
                    yield event
        except asyncio.CancelledError:
            _raise_failure_of(sender)
            raise
        finally:
            call.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    if done is None:
        raise BrokenStreamError(
            "the server ended the stream without its last event", request_id=start.request_id
        )
    if delivers_file(start.options, validate_only=start.validate_only):
        check.finish(done.done)
    yield done


async def _raise_what_is_behind(error: ServerError, transport: Transport, deadline: Deadline) -> None:
    """grpc makes INTERNAL of whatever status a call ended with when a write of ours met its end
    (grpc/grpc#36066). What is refused before it is read, for a wrong key, is found out by asking again for
    something small; where nothing is refused, the server was gone, and another one may be there.
    """
    if error.reason or not error.message.startswith(LOCAL_FAILURE):
        return
    left = deadline.left()
    seconds = _ASK_SECONDS if left is None else min(left, _ASK_SECONDS)
    with transport.errors(error.request_id):
        await transport.server.GetServerInfo(
            server_pb2.GetServerInfoRequest(), timeout=seconds, metadata=transport.metadata
        )
    raise UnavailableError(
        "the connection broke while the image was sent", request_id=error.request_id
    ) from error


async def _send(call: Any, start: upscaler_pb2.UpscaleStart, upload: Upload | None) -> None:
    # A call that has ended refuses further messages; its status, which the reader sees, says why.
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        try:
            await call.write(upscaler_pb2.UpscaleStreamRequest(start=start))
            if upload is not None:
                await _send_chunks(call, upload)
            await call.done_writing()
        except UpscaledError:
            call.cancel()
            raise


async def _send_chunks(call: Any, upload: Upload) -> None:
    """Reads one chunk ahead while the one before is on its way; flow control holds both back."""
    async with contextlib.aclosing(upload.chunks()) as chunks:
        on_its_way: asyncio.Task[None] | None = None
        try:
            async for chunk in chunks:
                if on_its_way is not None:
                    await on_its_way
                message = upscaler_pb2.UpscaleStreamRequest(chunk=chunk)
                on_its_way = asyncio.ensure_future(call.write(message))
            if on_its_way is not None:
                await on_its_way
        finally:
            if on_its_way is not None:
                on_its_way.cancel()
                await asyncio.gather(on_its_way, return_exceptions=True)


def _raise_failure_of(sender: asyncio.Task[None]) -> None:
    if sender.done() and not sender.cancelled() and (failure := sender.exception()) is not None:
        raise failure


def delivers_file(options: options_pb2.UpscaleOptions, *, validate_only: bool) -> bool:
    """Whether the answer carries the bytes of the file."""
    return not (validate_only or options.omit_file or options.delivery == options_pb2.DELIVERY_URL)
