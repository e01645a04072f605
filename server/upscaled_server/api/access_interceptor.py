"""Asks who calls before anything of the request is read.

The answer comes from metadata alone. To keep the body unread until then, unary requests are taken as a stream
of one message: for a plain unary handler grpc would receive and parse the whole message first. On the wire
there is no difference.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
import grpc.aio

from upscaled_server.access.access import OPERATOR, Access, Identity
from upscaled_server.api import caller
from upscaled_server.api.drain import drain
from upscaled_server.api.statuses import to_status
from upscaled_server.errors import DeadlinePassed, DomainError, InvalidInput, Overloaded, Unauthenticated

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Who: TypeAlias = Identity | Unauthenticated

# Probes have no key, and learn nothing but whether the server serves.
_OPEN = "/grpc.health."
_ADMIN = "/upscaled.v1.Admin/"
# Calls that make images; the others are short.
_WORK = "/upscaled.v1.Upscaler/"
# Their messages may carry a signature in place of a key, which the handler verifies before anything else.
_SIGNABLE = ("/upscaled.v1.Blobs/DownloadOutput",)
# A message has to be received before it is known that it has no signature: few at a time, and not for long.
_MAX_UNKNOWN = 16
_UNKNOWN_SECONDS = 5.0


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Stands behind `ErrorInterceptor`, which turns its refusals into statuses."""

    def __init__(self, access: Access, *, max_message_seconds: float) -> None:
        """`max_message_seconds`: how long the message of a unary request may take to arrive."""
        self._access = access
        self._max_message_seconds = max_message_seconds
        self._unknown = 0

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN):
            return handler
        who = self._identify(handler_call_details)
        if not method.startswith("/grpc."):
            if (
                method in _SIGNABLE
                and isinstance(who, Unauthenticated)
                and not _presented(handler_call_details)
            ):
                return self._signed(handler, who)
            return self._guarded(handler, method, who)
        return handler if isinstance(who, Identity) else self._refusing(who)

    def _identify(self, details: grpc.HandlerCallDetails) -> Who:
        try:
            return self._access.identify(_authorization(details))
        except Unauthenticated as error:
            return error

    def _guarded(self, handler: Handler, method: str, who: Who) -> Handler:
        """The handler behind the question who calls."""
        whole = not handler.request_streaming
        kind = f"{'unary' if whole else 'stream'}_{'stream' if handler.response_streaming else 'unary'}"
        behaviour = getattr(handler, kind)
        build = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )

        async def call(requests: AsyncIterator[Any], context: Context) -> Any:
            if not isinstance(who, Identity):
                await self._access.hold_back(_address(context.peer()))
                raise who
            with ExitStack() as stack:
                caller.identify(who)
                try:
                    self._admit(who, method, stack)
                except DomainError:
                    if not whole:
                        await drain(requests)
                    raise
                request = await self._one(requests, self._max_message_seconds) if whole else requests
                return await behaviour(request, context)

        guarded: Handler = build(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return guarded

    def _signed(self, handler: Handler, who: Unauthenticated) -> Handler:
        """The handler, for a call without a key whose message may have a signature."""
        behaviour: Any = handler.unary_stream

        async def call(requests: AsyncIterator[Any], context: Context) -> Any:
            try:
                request = await self._unknown_one(requests)
                if not getattr(request, "signature", ""):
                    raise who
                return await behaviour(request, context)
            except Unauthenticated:
                await self._access.hold_back(_address(context.peer()))
                raise

        signed: Handler = grpc.stream_stream_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return signed

    async def _unknown_one(self, requests: AsyncIterator[Any]) -> Any:
        if self._unknown >= _MAX_UNKNOWN:
            raise Overloaded(
                "too many calls without a key at once", retry_after_seconds=1.0, limit=_MAX_UNKNOWN
            )
        self._unknown += 1
        try:
            return await self._one(requests, _UNKNOWN_SECONDS)
        finally:
            self._unknown -= 1

    async def _one(self, requests: AsyncIterator[Any], seconds: float) -> Any:
        """The message of a unary request. Raises `InvalidInput` where none came, `DeadlinePassed`."""
        try:
            async with asyncio.timeout(seconds) as waiting:
                async for request in requests:
                    return request
        except TimeoutError:
            if not waiting.expired():
                raise
            raise DeadlinePassed(f"the message did not arrive within {seconds:g} seconds") from None
        raise InvalidInput("the call ended without its message")

    def _admit(self, who: Identity, method: str, stack: ExitStack) -> None:
        """Raises `PermissionDenied`, `CallerLimited`; what is taken is given back by `stack`."""
        if method.startswith(_ADMIN):
            who.check_admin()
        self._access.gates.check_rate(who.caller)
        if who.key_id:
            stack.enter_context(self._access.sessions.entered(who.key_id))
        if method.startswith(_WORK):
            stack.enter_context(self._access.gates.working(who.caller))

    def _refusing(self, error: Unauthenticated) -> Handler:
        """For handlers that are not ours, whose errors nobody else turns into statuses."""

        async def call(_: object, context: Context) -> None:
            refusal: DomainError = error
            try:
                await self._access.hold_back(_address(context.peer()))
            except DomainError as throttled:
                refusal = throttled
            await context.abort_with_status(to_status(refusal))

        return grpc.stream_stream_rpc_method_handler(call)


class OperatorInterceptor(grpc.aio.ServerInterceptor):
    """For the socket in the data folder: its file permissions say who may connect."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        caller.identify(OPERATOR)
        return await continuation(handler_call_details)


def _presented(details: grpc.HandlerCallDetails) -> bool:
    return any(name == "authorization" for name, _ in details.invocation_metadata or ())


def _authorization(details: grpc.HandlerCallDetails) -> str | None:
    """The header, None if there is none. Two of them are nobody's."""
    found = [value for name, value in details.invocation_metadata or () if name == "authorization"]
    if len(found) > 1:
        raise Unauthenticated("there is more than one authorization; send one")
    if not found:
        return None
    return found[0] if isinstance(found[0], str) else found[0].decode("latin-1")


def _address(peer: str) -> str:
    """Whose wrong keys are counted together: an IPv4 address, the /64 network of an IPv6 address, or all of
    a Unix socket. From grpc's `ipv4:HOST:PORT`, `ipv6:%5BHOST%5D:PORT`, `unix:…`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
