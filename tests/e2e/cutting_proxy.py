"""A TCP proxy whose connections break after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_ABORT = struct.pack("ii", 1, 0)


@dataclass
class Cutter:
    """Where the proxy listens. Each connection takes the next of `after` and breaks when so many bytes went
    through it, both ways together; with none left it holds.
    """

    address: str = ""
    after: deque[int] = field(default_factory=deque)
    cuts: int = 0
    sockets: list[socket.socket] = field(default_factory=list)

    def cut_now(self) -> None:
        """Breaks every connection there is."""
        self.cuts += 1
        for each in self.sockets:
            _reset(each)


@contextlib.contextmanager
def cutting_proxy(target: str) -> Iterator[Cutter]:
    """Forwards every connection to `target`."""
    cutter = Cutter()
    listener = socket.create_server(("127.0.0.1", 0))
    cutter.address = f"127.0.0.1:{listener.getsockname()[1]}"
    lock = threading.Lock()

    def pump(source: socket.socket, sink: socket.socket, left: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                with lock:
                    if left[0] is not None:
                        left[0] -= len(piece)
                        if left[0] <= 0:
                            left[0] = None
                            cutter.cuts += 1
                            break
                sink.sendall(piece)
        _reset(source)
        _reset(sink)

    def accept() -> None:
        host, _, port = target.rpartition(":")
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            cutter.sockets.extend((near, far))
            with lock:
                left: list[int | None] = [cutter.after.popleft() if cutter.after else None]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=(*pair, left), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield cutter
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in cutter.sockets:
            each.close()


def _reset(each: socket.socket) -> None:
    """As of a host that went away, not an orderly end."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        each.shutdown(socket.SHUT_RDWR)
