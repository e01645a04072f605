"""What all calls of one client share: the connection, how long and how often to try, the server's limits."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from upscaled._aio.transport import Transport
from upscaled._errors import NotImplementedByServerError
from upscaled._info import Limits, ServerInfo
from upscaled._retry import Attempts, Deadline, Retries
from upscaled._types import NotGiven
from upscaled.v1 import server_pb2

# Answers that come quickly; without a timeout of the caller's they still end.
_LOOKUP_TIMEOUT_SECONDS: Final = 30.0
_LIMITS_KEPT_SECONDS: Final = 600.0
# What a server has that does not answer GetServerInfo: the contract's defaults.
_DEFAULT_LIMITS: Final = server_pb2.Limits(
    max_input_bytes=64 << 20, max_inline_bytes=32 << 20, max_message_bytes=64 << 20
)


class Calls:
    """Makes the calls of one client."""

    def __init__(self, transport: Transport, *, timeout: float | None, retries: Retries) -> None:
        self.transport: Final = transport
        self._timeout: Final = timeout
        self._retries: Final = retries
        self._limits: Limits | None = None
        self._limits_until = 0.0

    def deadline(self, timeout: float | None | NotGiven) -> Deadline:
        """For work that takes as long as it takes, unless somebody set a bound."""
        return Deadline(self._timeout if isinstance(timeout, NotGiven) else timeout)

    def attempts(
        self, retries: Retries | int | NotGiven, deadline: Deadline, *, patience_seconds: float = 0.0
    ) -> Attempts:
        chosen = self._retries if isinstance(retries, NotGiven) else Retries.of(retries)
        return Attempts(chosen, deadline, patience_seconds=patience_seconds)

    async def lookup(self, service: str, method: str, request: Any, timeout: float | None | NotGiven) -> Any:
        """A call that the server answers without working: `service` is the transport's name of the stub."""
        chosen = self._timeout if isinstance(timeout, NotGiven) else timeout
        deadline = Deadline(_LOOKUP_TIMEOUT_SECONDS if chosen is None else chosen)
        return await self.unary(service, method, request, deadline, Attempts(self._retries, deadline))

    async def unary(
        self,
        service: str,
        method: str,
        request: Any,
        deadline: Deadline,
        attempts: Attempts,
        *,
        request_id: str = "",
    ) -> Any:
        return await self.transport.unary(
            lambda: getattr(getattr(self.transport, service), method),
            request,
            deadline=deadline,
            attempts=attempts,
            request_id=request_id,
        )

    async def limits(self, deadline: Deadline, attempts: Attempts) -> Limits:
        """What the server allows this caller; asked for every ten minutes."""
        now = asyncio.get_running_loop().time()
        if self._limits is None or now >= self._limits_until:
            request = server_pb2.GetServerInfoRequest()
            try:
                answer = await self.unary("server", "GetServerInfo", request, deadline, attempts)
                self._limits = ServerInfo.from_message(answer).limits
            except NotImplementedByServerError:
                self._limits = Limits.from_message(_DEFAULT_LIMITS)
            self._limits_until = now + _LIMITS_KEPT_SECONDS
        return self._limits
