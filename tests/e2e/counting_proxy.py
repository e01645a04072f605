"""A TCP proxy that counts what a client managed to send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Counter:
    """Where the proxy listens, and bytes that went through it towards the server."""

    address: str = ""
    sent: int = 0


@contextlib.contextmanager
def counting_proxy(target: str) -> Iterator[Counter]:
    """Forwards every connection to `target` and counts the bytes that the target took."""
    counter = Counter()
    open_sockets: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))
    counter.address = f"127.0.0.1:{listener.getsockname()[1]}"

    def pump(source: socket.socket, sink: socket.socket, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
                if counted:
                    counter.sent += len(piece)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        host, _, port = target.rpartition(":")
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            # Small buffers: what waits in them has been sent, but not taken.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            open_sockets.extend((near, far))
            threading.Thread(target=pump, args=(near, far), kwargs={"counted": True}, daemon=True).start()
            threading.Thread(target=pump, args=(far, near), kwargs={"counted": False}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield counter
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in open_sockets:
            each.close()
