"""Turns the domain's errors into gRPC statuses, for every servicer alike, and counts the calls that run.

What is not a `DomainError` is a bug: the caller gets INTERNAL without particulars, the log gets the
traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from upscaled_server.api import caller
from upscaled_server.api.call_metrics import CallMetrics
from upscaled_server.api.malformed import tolerant, well_formed
from upscaled_server.api.statuses import code_of, to_status
from upscaled_server.errors import DomainError, KeysThrottled, ProcessingFailed, Unauthenticated
from upscaled_server.telemetry import metrics

log = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of ours so that its errors end the call with a status and details.

    Handlers are coroutines; those that stream write through `context.write`.
    """

    def __init__(self) -> None:
        self._running = 0
        # Of methods that there are: others have no handler.
        self._metrics: dict[str, CallMetrics] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no call of ours is running. Health and reflection streams, which never end, do not
        count."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        method = handler_call_details.method
        counted = self._metrics.get(method) or self._metrics.setdefault(method, CallMetrics(method))
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                build = getattr(grpc, f"{kind}_rpc_method_handler")
                wrapped: Handler = build(
                    self._wrap(behaviour, method, counted),
                    request_deserializer=counted.receiving(
                        tolerant(_request_of(method), handler.request_deserializer)
                    ),
                    response_serializer=counted.sending(handler.response_serializer),
                )
                return wrapped
        return handler

    def _wrap(
        self, behaviour: Callable[..., Awaitable[Any]], method: str, counted: CallMetrics
    ) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            self._running += 1
            self._idle.clear()
            try:
                with counted.call() as outcome:
                    try:
                        answer = await behaviour(well_formed(request), context)
                        outcome.code = grpc.StatusCode.OK
                        return answer
                    except Exception as error:  # what is not known is logged, and told as INTERNAL
                        internal = grpc.StatusCode.INTERNAL
                        outcome.code = code_of(error) if isinstance(error, DomainError) else internal
                        await _end(error, context, method)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return call


def _request_of(method: str) -> Descriptor:
    """What an rpc of the contract is called with, by its full name."""
    found: MethodDescriptor = descriptor_pool.Default().FindMethodByName(method[1:].replace("/", "."))
    return found.input_type


async def _end(error: Exception, context: Context, method: str) -> NoReturn:
    """End the call with the status of `error`; `abort_with_status` raises."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    request_id = caller.request_id.get()
    named = f"{method} {request_id!r}" if request_id else method
    if not isinstance(error, DomainError):
        log.exception("unexpected error in %s", named, exc_info=error)
        error = ProcessingFailed("an internal error occurred; the server's log has the particulars")
    else:
        log.log(_level(error), "%s ended %s: %s", named, code_of(error).name, error.message)
    metrics.REFUSED.labels(error.reason).inc()
    await context.abort_with_status(to_status(error, request_id=request_id))
    raise AssertionError("abort_with_status always raises")


def _level(error: DomainError) -> int:
    if isinstance(error, ProcessingFailed):
        return logging.ERROR
    # Strangers must not be able to fill the log; `access` reports them together.
    return logging.DEBUG if isinstance(error, Unauthenticated | KeysThrottled) else logging.INFO
