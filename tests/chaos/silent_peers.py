"""Peers that open a stream and then say nothing more, as machines do that lost their network.

python -m tests.chaos.silent_peers [--peers 100] [--short] [--out FILE]

Their connections stay open as far as the system knows; only what they do not answer tells.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from contextlib import ExitStack

from tests.chaos.http2 import UPSCALE_STREAM, connected, headers_of
from tests.e2e.conftest import running_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.soak.levels import Levels

_LONGEST_SECONDS = 45.0


def silent_peer(address: str) -> socket.socket:
    """A connection with one stream that waits for its first message."""
    sock, connection = connected(address)
    connection.send_headers(1, headers_of(UPSCALE_STREAM))
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
    parser = arguments("silent_peers", __doc__.split("\n")[0])
    parser.add_argument("--peers", type=int, default=100)
    options = parser.parse_args()
    count = 10 if options.short else options.peers
    record = Record(
        "silent_peers",
        "Half-open peers",
        f"{count} connections with an open stream that answer nothing any more, pings included",
        options.short,
        tried=count,
    )
    with running_server() as server, ExitStack() as stack:
        control = Control(server)
        peers = [stack.enter_context(silent_peer(server.address)) for _ in range(count)]
        time.sleep(1)
        during = Levels.of(server.process.pid)
        began, closed = time.monotonic(), list[float]()
        while peers and time.monotonic() - began < _LONGEST_SECONDS:
            time.sleep(0.25)
            left = [peer for peer in peers if not is_closed(peer)]
            closed += [time.monotonic() - began] * (len(peers) - len(left))
            peers = left
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server)
    record.held = len(closed)
    if peers:
        record.not_held.append(f"{len(peers)} peers were not freed within {_LONGEST_SECONDS:g} s")
    record.figures = {
        "last_freed_after_s": max(closed, default=0.0),
        "descriptors_before": control.before.descriptors,
        "descriptors_during": during.descriptors,
        "descriptors_after": control.after.descriptors,
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
