"""Names to addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

_THREADS = 16


class Resolver(Protocol):
    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Addresses as text. Raises `OSError` where there are none."""

    def close(self) -> None: ...


class SystemResolver:
    """The machine's own. In threads of its own: a name whose servers do not answer holds one for as long as
    the system waits, and must not hold those that the rest of the server needs."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="upscaled-dns")

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _addresses, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(sockaddr[0]) for _family, _type, _proto, _name, sockaddr in found]
