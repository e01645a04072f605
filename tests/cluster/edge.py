"""Envoy in front of all servers of a cluster."""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.conftest import REPO
from tests.ports import free_port

_START_SECONDS = 30.0


def script() -> dict[str, Any]:
    """The functions of `scripts/edge.py`."""
    folder = str(REPO / "scripts")
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(f"{folder}/edge.py")
    finally:
        sys.path.remove(folder)


@contextmanager
def edge(servers: Sequence[str]) -> Iterator[str]:
    """Its address as HOST:PORT; for HTTP and for gRPC."""
    functions = script()
    address = f"127.0.0.1:{free_port()}"
    with functions["envoy"](functions["Addresses"](address, ",".join(servers))) as process:
        _wait(address, process)
        yield address


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    """Until it takes connections."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("Envoy did not start") from None
            time.sleep(0.05)
