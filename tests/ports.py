"""Ports for programs that must be told theirs before they start, or must have the same one again after it."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

_FIRST, _END = 20_000, 30_000
"""Below those that Linux gives to connections and to whoever asks for port 0: nobody is given one of ours in
the moment before a program takes it, or between a program's death and its start."""


def free_ports(count: int) -> list[int]:
    """Each process that runs tests on this machine gets others, until all have had their turn."""
    ports: list[int] = []
    with (Path(tempfile.gettempdir()) / f"upscaled-tests-port-{os.getuid()}").open("a+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        last.seek(0)
        port = int(last.read() or _END)
        for _ in range(_END - _FIRST):
            if len(ports) == count:
                break
            port = port + 1 if _FIRST <= port < _END - 1 else _FIRST
            if _is_free(port):
                ports.append(port)
        last.truncate(0)
        last.write(str(port))
    assert len(ports) == count, f"fewer than {count} ports are free between {_FIRST} and {_END}"
    return ports


def free_port() -> int:
    return free_ports(1)[0]


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
