"""The server's end of one decode's row socket."""

from __future__ import annotations

import asyncio
import socket
import time

import numpy as np
from numpy.typing import NDArray

from upscaled_server.media.codec import wire
from upscaled_server.media.info import ImageInfo


class ChildEndedError(Exception):
    """The socket closed before the child had said END or ERROR."""


class TooSlowError(Exception):
    """The child has kept us waiting longer than allowed."""


class RowChannel:
    """Reads a child's frames. Owns `sock`.

    Only the time spent waiting for the child counts against `patience_seconds`. While rows lie in the
    socket unread, it is the reader that is slow, and the clock stands still.
    """

    def __init__(self, sock: socket.socket, patience_seconds: float) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._patience = self._full_patience = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._unread = 0  # bytes of the current ROWS frame that have not been received

    async def header(self) -> wire.Header:
        kind, length = await self._frame()
        if kind != wire.HEADER or length > wire.MAX_HEADER_BYTES:
            raise wire.ProtocolBrokenError(f"expected a header, got {kind!r} of {length} bytes")
        return wire.unpack_header(bytes(await self._receive(length)))

    async def go(self) -> None:
        try:
            await self._loop.sock_sendall(self._sock, wire.GO)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChildEndedError from error

    async def decoded(self) -> None:
        kind, length = await self._frame()
        if kind != wire.DECODED or length:
            raise wire.ProtocolBrokenError(f"expected DECODED, got {kind!r} of {length} bytes")

    async def rows(self, count: int, info: ImageInfo) -> NDArray[np.generic]:
        """Exactly `count` rows, however the child has cut them into frames."""
        dtype = np.uint8 if info.bits == 8 else np.uint16
        rows = np.empty((count, info.width, info.planes), dtype)
        view = rows.reshape(-1).view(np.uint8).data
        at = 0
        while at < len(view):
            if not self._unread:
                kind, self._unread = await self._frame()
                if kind != wire.ROWS or not self._unread:
                    raise wire.ProtocolBrokenError(f"expected rows, got {kind!r}")
            part = view[at : at + self._unread]
            got = await self._receive_some(part)
            at += got
            self._unread -= got
        return rows

    async def converted(self, rows: NDArray[np.generic]) -> NDArray[np.generic]:
        """What a converting child makes of `rows`: an array of the same shape. Patience begins anew."""
        self._patience = self._full_patience
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        try:
            async with asyncio.timeout(self._patience):
                await self._loop.sock_sendall(self._sock, wire.frame(wire.ROWS, len(data)))
                await self._loop.sock_sendall(self._sock, data)
        except TimeoutError as error:
            raise TooSlowError from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChildEndedError from error
        out = np.empty_like(rows, order="C")
        view = out.reshape(-1).view(np.uint8).data
        kind, length = await self._frame()
        if kind != wire.ROWS or length != len(view):
            raise wire.ProtocolBrokenError(f"expected {len(view)} bytes of rows, got {kind!r} of {length}")
        while view:
            view = view[await self._receive_some(view) :]
        return out

    async def end(self) -> None:
        if self._unread:
            raise wire.ProtocolBrokenError("more rows than the header promised")
        kind, _ = await self._frame()
        if kind != wire.END:
            raise wire.ProtocolBrokenError(f"expected the end, got {kind!r}")

    def close(self) -> None:
        self._sock.close()

    async def _frame(self) -> tuple[bytes, int]:
        kind, length = wire.FRAME.unpack(await self._receive(wire.FRAME.size))
        if kind == wire.ERROR:
            if length > wire.MAX_ERROR_BYTES:
                raise wire.ProtocolBrokenError("error message too long")
            raise wire.unpack_error(bytes(await self._receive(length)))
        return kind, length

    async def _receive(self, length: int) -> bytearray:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            view = view[await self._receive_some(view) :]
        return buffer

    async def _receive_some(self, view: memoryview) -> int:
        try:
            got = self._sock.recv_into(view)
        except BlockingIOError:
            got = await self._wait_for_some(view)
        except ConnectionResetError as error:
            raise ChildEndedError from error
        if not got:
            raise ChildEndedError
        return got

    async def _wait_for_some(self, view: memoryview) -> int:
        if self._patience <= 0:
            raise TooSlowError
        before = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                return await self._loop.sock_recv_into(self._sock, view)
        except TimeoutError as error:
            raise TooSlowError from error
        except ConnectionResetError as error:
            raise ChildEndedError from error
        finally:
            self._patience -= time.monotonic() - before
