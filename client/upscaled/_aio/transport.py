"""One connection: the channel and its stubs, what goes with every call, and single attempts turned into
calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from upscaled._channel import open_channel
from upscaled._errors import CallCancelledError, ClientClosedError, UpscaledError
from upscaled._retry import Attempts, Deadline
from upscaled._statuses import from_rpc_error
from upscaled._tracing import trace_metadata
from upscaled._types import TLSLike
from upscaled.v1 import (
    account_pb2_grpc,
    blobs_pb2_grpc,
    jobs_pb2_grpc,
    models_pb2_grpc,
    server_pb2_grpc,
    upscaler_pb2_grpc,
)


class ErrorTranslation:
    """See `Transport.errors`.

    Not a generator: the frame of one refers to whoever threw the error into it, who holds the error, which
    refers to the frame. So the error would go only by garbage collection, and with it the connection of its
    call.
    """

    def __init__(self, transport: Transport, request_id: str) -> None:
        self._transport = transport
        self._request_id = request_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, grpc.aio.AioRpcError):
                raise from_rpc_error(
                    error, target=self._transport.target, request_id=self._request_id
                ) from error
            if isinstance(error, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    return  # the caller's own task was cancelled, which is not ours to rename
                if self._transport.closed:
                    raise ClientClosedError(
                        "the client was closed during the call", request_id=self._request_id
                    ) from None
                raise CallCancelledError("the call was cancelled", request_id=self._request_id) from None
        finally:
            del error, traceback


class Transport:
    """Opens its channel at the first call, in the event loop of that call, and belongs to that loop from then
    on.
    """

    def __init__(self, target: str, *, api_key: str | None, tls: TLSLike) -> None:
        self.target: Final = target
        self._tls: Final = tls
        # As metadata, not as call credentials: grpc refuses those without TLS, also on loopback.
        self._authorization: Final = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with a call that begins now."""
        return (*self._authorization, *trace_metadata())

    @property
    def upscaler(self) -> upscaler_pb2_grpc.UpscalerAsyncStub:
        return upscaler_pb2_grpc.UpscalerStub(self._open())

    @property
    def models(self) -> models_pb2_grpc.ModelsAsyncStub:
        return models_pb2_grpc.ModelsStub(self._open())

    @property
    def server(self) -> server_pb2_grpc.ServerAsyncStub:
        return server_pb2_grpc.ServerStub(self._open())

    @property
    def jobs(self) -> jobs_pb2_grpc.JobsAsyncStub:
        return jobs_pb2_grpc.JobsStub(self._open())

    @property
    def blobs(self) -> blobs_pb2_grpc.BlobsAsyncStub:
        return blobs_pb2_grpc.BlobsStub(self._open())

    @property
    def account(self) -> account_pb2_grpc.AccountAsyncStub:
        return account_pb2_grpc.AccountStub(self._open())

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise ClientClosedError("this client is closed")
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            self._channel = open_channel(self.target, self._tls)
        elif self._loop is not loop:
            raise ClientClosedError(
                "an AsyncClient belongs to the event loop of its first call; this is another one"
            )
        return self._channel

    async def aclose(self) -> None:
        """Cancels what is running and closes the connection. Closing twice is harmless."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close(None)

    def errors(self, request_id: str = "") -> ErrorTranslation:
        """Turns what grpc raises within into the SDK's errors."""
        return ErrorTranslation(self, request_id)

    @property
    def closed(self) -> bool:
        return self._closed

    async def unary(
        self,
        method: Callable[[], Any],
        request: Any,
        *,
        deadline: Deadline,
        attempts: Attempts,
        request_id: str = "",
    ) -> Any:
        """Calls until it succeeds or `attempts` has had enough. `method` gives the stub's method anew each
        time.
        """
        while True:
            try:
                with self.errors(request_id):
                    return await method()(request, timeout=deadline.left(), metadata=self.metadata)
            except UpscaledError as error:
                await attempts.pause(error)
