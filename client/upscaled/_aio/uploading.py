"""An upload that goes on where it broke."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody

from upscaled._aio.attempt import LOCAL_FAILURE
from upscaled._aio.calls import Calls
from upscaled._aio.resuming import PATIENCE_SECONDS
from upscaled._errors import DataLossError, InvalidRequestError, SourceError, UnavailableError, UpscaledError
from upscaled._retry import Deadline, Retries
from upscaled._stored import Input
from upscaled._times import duration, when
from upscaled._types import NotGiven
from upscaled._uploads import Upload, digest
from upscaled.v1 import blobs_pb2

# Once: a file that changes while it is sent never matches.
_FRESH_STARTS: Final = 1


async def send_input(
    calls: Calls,
    upload: Upload,
    request_id: str,
    deadline: Deadline,
    retries: Retries | int | NotGiven,
    *,
    begun: bool,
    retention: timedelta | float | None = None,
) -> Input:
    """Makes an input, or finds the one this `request_id` has made, and writes it to its end. `begun` says
    that a part of it may be there.

    After a broken stream the server is asked how much it has, and the rest is sent.
    """
    sha256 = await digest(upload)
    attempts = calls.attempts(retries, deadline, patience_seconds=PATIENCE_SECONDS)
    created: blobs_pb2.Input = await calls.unary(
        "blobs",
        "CreateInput",
        blobs_pb2.CreateInputRequest(
            request_id=request_id,
            size_bytes=upload.size,
            sha256=sha256,
            retention=duration("retention", retention),
        ),
        deadline,
        attempts,
        request_id=request_id,
    )
    attempts.progressed()
    query = blobs_pb2.QueryWriteStatusRequest(input_id=created.id)
    status = blobs_pb2.WriteStatus()
    if begun:
        status = await calls.unary("blobs", "QueryWriteStatus", query, deadline, attempts)
    fresh_starts = 0
    while not status.complete:
        before = status.committed_size_bytes
        try:
            status = await _write(calls, upload, created.id, before, deadline)
            if status.complete:
                break
            raise UnavailableError(f"the server took {status.committed_size_bytes} of {upload.size} bytes")
        except UpscaledError as error:
            fresh_starts += isinstance(error, DataLossError)
            if fresh_starts > _FRESH_STARTS:
                raise
            await attempts.pause(error, retryable=_worth_asking(error))
        status = await calls.unary("blobs", "QueryWriteStatus", query, deadline, attempts)
        if status.committed_size_bytes > before:
            attempts.progressed()
    if status.sha256 and status.sha256 != sha256:
        raise DataLossError(f"the server has other bytes than were sent as input {created.id}")
    return Input(
        id=created.id,
        size_bytes=upload.size,
        sha256=sha256,
        create_time=when(created, "create_time"),
        expire_time=when(created, "expire_time"),
    )


def _worth_asking(failure: UpscaledError) -> bool:
    """Whether the server may know better than this status how far the upload is."""
    return (
        isinstance(failure, DataLossError)  # discarded: from the start again
        or (isinstance(failure, InvalidRequestError) and failure.code.name == "OUT_OF_RANGE")
    )


async def _write(
    calls: Calls, upload: Upload, input_id: str, offset: int, deadline: Deadline
) -> blobs_pb2.WriteStatus:
    transport = calls.transport
    sending = _Sending(upload, input_id, offset)
    try:
        with transport.errors():
            call: Any = transport.blobs.WriteInput(
                sending.messages(), timeout=deadline.left(), metadata=transport.metadata
            )
            try:
                status: blobs_pb2.WriteStatus = await call
                return status
            finally:
                call.cancel()
    except UpscaledError as error:
        if sending.failure is not None:
            raise sending.failure from None
        if error.message.startswith(LOCAL_FAILURE):
            raise UnavailableError("the upload broke while it was sent") from error
        raise


class _Sending:
    """The messages of one WriteInput. What goes wrong on this side would end as a status that says nothing;
    it is kept in `failure`.
    """

    def __init__(self, upload: Upload, input_id: str, offset: int) -> None:
        self._upload = upload
        self._input_id = input_id
        self._offset = offset
        self.failure: SourceError | None = None

    async def messages(self) -> AsyncGenerator[blobs_pb2.WriteInputRequest, None]:
        try:
            async for message in self._messages():
                yield message
        except SourceError as error:
            self.failure = error
            raise

    async def _messages(self) -> AsyncGenerator[blobs_pb2.WriteInputRequest, None]:
        at = self._offset
        size = self._upload.size
        if at >= size:
            yield self._message(at, b"", finish=True)
            return
        async with contextlib.aclosing(self._upload.chunks(at)) as chunks:
            async for chunk in chunks:
                piece = chunk[: size - at]  # of a file that grows, what was there at the beginning
                yield self._message(at, piece, finish=at + len(piece) == size)
                at += len(piece)
                if at == size:
                    return
        raise SourceError(f"source: {size} bytes were there at the beginning, and now only {at}")

    def _message(self, at: int, data: bytes, *, finish: bool) -> blobs_pb2.WriteInputRequest:
        return blobs_pb2.WriteInputRequest(
            input_id=self._input_id, offset=at, content=HttpBody(data=data), finish=finish
        )
