"""Messages across a socket pair: JSON objects, each with at most one file descriptor.

Sequenced packets keep message and descriptor together, so there is no framing to get wrong. Nothing is
pickled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_MESSAGE_BYTES = 64 << 10
"""Below what every kernel takes as one packet on a unix socket. Pixels do not travel in messages."""

_MAX_QUEUED = 4096
_PACKETS_PER_WAKEUP = 64
_FD = struct.Struct("i")
_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)

Message = dict[str, Any]


class Channel:
    """One end of the socket pair, on an event loop.

    `on_message(message, fd)` is called for each message; a descriptor that comes with it then belongs to the
    callee. `on_closed()` is called once, when the other end is gone or has sent what no end of ours sends.
    Not thread-safe but for `send_soon`.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message, int | None], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._open = True
        self._thread = threading.get_ident()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Two connected sockets, for the two ends."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send without waiting; what the socket does not take at once is queued, in order.

        `fd` must stay open until the other end has answered. Silent when closed: whoever waits for an answer
        learns of that from `on_closed`. Raises `ValueError` for a message that is too large.
        """
        if not self._open:
            return
        packet = json.dumps(message, separators=(",", ":")).encode()
        if len(packet) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(packet)} bytes is larger than {MAX_MESSAGE_BYTES}")
        if self._queue:
            if len(self._queue) >= _MAX_QUEUED:
                self._lose()
                return
            self._queue.append((packet, fd))
        elif not self._try_send(packet, fd) and self._open:
            self._queue.append((packet, fd))
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def send_soon(self, message: Message) -> None:
        """`send` from any thread, or from a finaliser."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: then there is nobody to tell
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self.send, message)  # no system call to wake a loop that is awake
            else:
                self._loop.call_soon_threadsafe(self.send, message)

    def close(self) -> None:
        """Close the socket. `on_closed` is not called."""
        if not self._open:
            return
        self._open = False
        self._queue.clear()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()

    def _lose(self) -> None:
        if self._open:
            self.close()
            self._on_closed()

    def _try_send(self, packet: bytes, fd: int | None) -> bool:
        try:
            if fd is None:
                self._sock.send(packet)
            else:
                socket.send_fds(self._sock, [packet], [fd])
        except (BlockingIOError, InterruptedError):
            return False
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader reports the loss, after it has read what the other end said last
        except OSError:
            self._loop.call_soon(self._lose)
        return True

    def _writable(self) -> None:
        while self._queue:
            if not self._try_send(*self._queue[0]):
                return
            self._queue.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(_PACKETS_PER_WAKEUP):
            if not self._open:
                return
            try:
                # Not `recv_fds`: CPython 3.11's drops the flag that keeps it from our children.
                packet, extra, flags, _ = self._sock.recvmsg(
                    MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_FD.size), socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lose()
                return
            fd = _descriptor(extra)
            message = _parse(packet) if not flags & _CUT_OFF else None
            if message is None:  # an empty packet is the end of the connection
                if fd is not None:
                    os.close(fd)
                self._lose()
                return
            self._on_message(message, fd)


def _descriptor(extra: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= _FD.size:
            return int(_FD.unpack_from(data)[0])
    return None


def _parse(packet: bytes) -> Message | None:
    try:
        message = json.loads(packet)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
