"""A TCP proxy that can fall silent, or let questions through and no answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class HoldingProxy:
    """Forwards while nothing else is asked for. What is held is not delivered later."""

    def __init__(self, port: int) -> None:
        self.questions = True
        self.answers = True
        self.url = ""
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """As if a cable was pulled: connections stay, and nothing comes through."""
        self.questions = self.answers = False

    def go_on(self) -> None:
        """New connections work; those that lost something are broken."""
        self.cut()
        self.questions = self.answers = True

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            both = {writer, far_writer}
            self._writers |= both
            try:
                await asyncio.gather(
                    self._pump(reader, far_writer, "questions"), self._pump(far_reader, writer, "answers")
                )
            finally:
                self._writers -= both
                for each in both:
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if getattr(self, what):
                    writer.write(piece)
                    await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def holding_proxy(port: int) -> AsyncIterator[HoldingProxy]:
    """In front of a port of this machine."""
    proxy = HoldingProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
