"""A network of its own for a scenario, in which this machine has every address that there is.

What a server in it dials is real: real sockets to the real address, answered by whoever listens here. It
takes root, for the namespaces, and `unshare` and `ip`.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INSIDE = "NETWORK_OF_ITS_OWN"
_ALL_PROTOCOLS = 3
_SYN, _ACK = 2, 16


def enter() -> int | None:
    """Run this program again in a network of its own, and return its exit status; None inside of it.

    Raises `PermissionError` where there can be none.
    """
    if os.environ.get(_INSIDE):
        _own_every_address()
        return None
    probe = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        raise PermissionError(probe.stderr.strip())
    command = ["unshare", "--net", "--mount", "--", sys.executable, *_this_program(), *sys.argv[1:]]
    return subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode


def _this_program() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    return ["-m", spec.name] if spec is not None else [sys.argv[0]]


def _own_every_address() -> None:
    for words in (
        "link set lo up",
        "route add local 0.0.0.0/0 dev lo",
        "-6 route add local ::/0 dev lo",
    ):
        subprocess.run(["ip", *words.split()], check=True)


@contextmanager
def name_server_here(address: str) -> Iterator[None]:
    """While it lasts, the system's resolver asks at this address, port 53. In a mount namespace only."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"nameserver {address}\noptions timeout:2 attempts:2\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "/etc/resolv.conf"], check=True)


class Wire:
    """Sees every connection that is tried in this network, answered or not. `dialled` are addresses and
    ports."""

    def __init__(self) -> None:
        self.dialled: set[tuple[str, int]] = set()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="wire")

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                packet = self._socket.recv(256)
            except TimeoutError:
                continue
            found = _opening(packet)
            if found is not None:
                self.dialled.add(found)


def _opening(packet: bytes) -> tuple[str, int] | None:
    """Where a connection is opened to, if this packet opens one."""
    version = packet[0] >> 4
    if version == 4:
        protocol, header = packet[9], 4 * (packet[0] & 15)
        address = socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif version == 6:
        protocol, header = packet[6], 40
        address = socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        return None
    if protocol != socket.IPPROTO_TCP or len(packet) < header + 14:
        return None
    if packet[header + 13] & (_SYN | _ACK) != _SYN:
        return None
    return address, struct.unpack_from(">H", packet, header + 2)[0]
