"""Peers that open a stream and then say nothing more, as machines do that lost their network.

python -m tests.chaos.silent_peers [--peers 100] [--short] [--out bench-results/chaos_silent_peers.json]

Their connections stay open as far as the system knows; only what they do not answer tells.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import h2.config
import h2.connection

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, picture
from tests.soak.levels import Levels
from upscaled import Client

_LONGEST_SECONDS = 45.0
_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/upscaled.v1.Upscaler/UpscaleStream"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def silent_peer(address: str) -> socket.socket:
    """A connection with one stream that waits for its first message."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, _HEADERS)
    sock.sendall(connection.data_to_send())
    return sock


def is_closed(sock: socket.socket) -> bool:
    """Reads what came, and answers nothing."""
    while select.select([sock], [], [], 0)[0]:
        try:
            if not sock.recv(1 << 16):
                return True
        except OSError:
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--short", action="store_true", help="10 peers; it takes as long")
    parser.add_argument("--out", type=Path, default=Path("bench-results/chaos_silent_peers.json"))
    options = parser.parse_args()
    count = 10 if options.short else options.peers
    with running_server() as server, ExitStack() as stack:
        with Client(server.address, timeout=120) as client:
            client.upscale(picture(24, 16), model=FAST)
        time.sleep(2)
        before = Levels.of(server.process.pid)
        peers = [stack.enter_context(silent_peer(server.address)) for _ in range(count)]
        time.sleep(1)
        during = Levels.of(server.process.pid)
        began, closed = time.monotonic(), list[float]()
        while peers and time.monotonic() - began < _LONGEST_SECONDS:
            time.sleep(0.25)
            left = [peer for peer in peers if not is_closed(peer)]
            closed += [time.monotonic() - began] * (len(peers) - len(left))
            peers = left
        time.sleep(1)
        after = Levels.of(server.process.pid)
        with Client(server.address, timeout=120) as client:
            works = client.upscale(picture(24, 16), model=FAST).width == 96
    right = works and not peers and after.descriptors <= before.descriptors + 2
    record = {
        "peers": count,
        "freed": len(closed),
        "last_freed_after_seconds": max(closed, default=None),
        "descriptors": [before.descriptors, during.descriptors, after.descriptors],
        "held": right,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(
        f"{count} silent peers: {len(closed)} freed, the last after {max(closed, default=0):.0f} s; "
        f"descriptors {before.descriptors} -> {during.descriptors} -> {after.descriptors}; "
        f"{'held' if right else 'NOT HELD'}"
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
