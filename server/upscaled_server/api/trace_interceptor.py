"""A span around every call, as a part of the trace that its caller named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from upscaled_server.api import caller
from upscaled_server.telemetry import tracing
from upscaled_server.telemetry.tracing import Kind, Span

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Where the fault is the server's; a caller's own mistakes are no failures of the span.
_FAILURES = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
)


class TraceInterceptor(grpc.aio.ServerInterceptor):
    """Stands before all others, so that the span covers what they do. Names of attributes are those of
    OpenTelemetry's conventions for rpcs."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        parent = tracing.remote(_traceparent(handler_call_details))
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                build = getattr(grpc, f"{kind}_rpc_method_handler")
                wrapped: Handler = build(
                    _within(behaviour, method.removeprefix("/"), parent),
                    request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer,
                )
                return wrapped
        return handler


def _within(
    behaviour: Callable[..., Awaitable[Any]], method: str, parent: Span
) -> Callable[..., Awaitable[Any]]:
    service, _, name = method.partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

    async def call(request: Any, context: Context) -> Any:
        with tracing.within(
            tracing.start(method, parent=parent, kind=Kind.SERVER, attributes=attributes)
        ) as span:
            try:
                answer = await behaviour(request, context)
                _note(span, grpc.StatusCode.OK)
                return answer
            except grpc.aio.AbortError:
                _note(span, _code_of(context))
                raise
            except BaseException:  # a cancellation: what else is wrong has become a status
                _note(span, grpc.StatusCode.CANCELLED)
                raise

    return call


def _note(span: Span, code: grpc.StatusCode) -> None:
    about = {"upscaled.caller": caller.name(), "upscaled.request_id": caller.request_id.get()}
    span.set(
        {"rpc.grpc.status_code": code.value[0], **{name: value for name, value in about.items() if value}}
    )
    if code in _FAILURES:
        span.fail(code.name)


def _code_of(context: Context) -> grpc.StatusCode:
    """What the call was aborted with; grpc gives it as it was set, a number or a `StatusCode`."""
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _traceparent(details: grpc.HandlerCallDetails) -> str:
    """The header; of several the last, which an interceptor of the caller's added to what its client sent."""
    found = [value for name, value in details.invocation_metadata or () if name == "traceparent"]
    return found[-1] if found and isinstance(found[-1], str) else ""
