"""httpcore's sockets, behind the guard: a host is resolved once, everything it leads to is checked, and what
was checked is dialled. TLS and the Host header keep the name."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from upscaled_server.intake.fetch.guard import Guard

SocketOptions = Iterable[httpcore.SOCKET_OPTION]

# Of a name with many addresses; one that answers at none of these is down.
_MAX_DIALLED = 4
_MAX_HEAD_BYTES = 256 * 1024


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """`dial` opens the sockets; it is given addresses only, never names."""

    def __init__(self, guard: Guard, dial: httpcore.AsyncNetworkBackend | None = None) -> None:
        self._guard = guard
        self._dial = dial if dial is not None else httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises `UrlRefused`, `FetchFailed`, and what httpcore raises."""
        addresses = (await self._guard.addresses(host, port))[:_MAX_DIALLED]
        until = None if timeout is None else time.monotonic() + timeout
        failure: Exception = httpcore.ConnectError("no address")
        for place, address in enumerate(addresses):
            # What is left is shared, so that a dead address leaves time for the next.
            share = None if until is None else (until - time.monotonic()) / (len(addresses) - place)
            try:
                return WatchedStream(
                    await self._dial.connect_tcp(str(address), port, share, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._dial.sleep(seconds)


class WatchedStream(httpcore.AsyncNetworkStream):
    """Bounds what comes before the answer's body, which may be any number of announcements that it will come.

    `last_read` tells whether more came than the answer said there was.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_bytes_left = _MAX_HEAD_BYTES
        self._in_head = True
        self.last_read = b""

    def body_begins(self) -> None:
        self._in_head = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.last_read = await self._stream.read(max_bytes, timeout)
        if self._in_head:
            self._head_bytes_left -= len(self.last_read)
            if self._head_bytes_left < 0:
                raise httpcore.RemoteProtocolError("too much before the body")
        return self.last_read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return WatchedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
