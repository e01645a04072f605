"""An internet of two machines: the one at the public address, and a canary at every other one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpcore
from dns_stub import PUBLIC_ADDRESS

PUBLIC = {PUBLIC_ADDRESS, "2606:2800:220:1::1", "64:ff9b::5db8:d822"}


class Canary:
    """Listens, and remembers that somebody came."""

    def __init__(self) -> None:
        self.reached = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _came(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()


class Internet(httpcore.AsyncNetworkBackend):
    """Real connections, of which the address is translated: public ones lead to the public server, all others
    to the canary. `dialled` holds the addresses."""

    def __init__(self, public_port: int, canary_port: int, tls_port: int = 0) -> None:
        self._public_port = public_port
        self._canary_port = canary_port
        self._tls_port = tls_port
        self._sockets = httpcore.AnyIOBackend()
        self.dialled: list[str] = []
        self.down: set[str] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        if host in self.down:
            raise httpcore.ConnectError("down")
        public = self._tls_port if port == 443 else self._public_port
        at = public if host in PUBLIC else self._canary_port
        return await self._sockets.connect_tcp("127.0.0.1", at, timeout, local_address, socket_options)
