"""Streams that are opened and reset at once, as fast as the server takes them.

python -m tests.chaos.http2_resets [--streams 100000] [--short] [--out bench-results/chaos_http2_resets.json]

Written in raw HTTP/2 frames: the gRPC library is too polite for it. Meanwhile a good caller goes on calling.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import select
import socket
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.soak.levels import Levels
from upscaled import Client

_AT_A_TIME = 50
_LONGEST_SECONDS = 600.0
_SETTLE_SECONDS = 5.0
_MOST_RSS_GROWTH_BYTES = 100 << 20
_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/upscaled.v1.Upscaler/UpscaleStream"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Attacker:
    """Opens and resets until `streams` are done, over as many connections as the server makes it use."""

    def __init__(self, address: str, streams: int) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._streams = streams
        self.opened = 0
        self.connections = 0
        self.acknowledged = False

    def run(self) -> None:
        until = time.monotonic() + _LONGEST_SECONDS
        while self.opened < self._streams and time.monotonic() < until:
            self.connections += 1
            try:
                self._connection(until)
            except (OSError, h2.exceptions.ProtocolError):
                time.sleep(0.01)  # the server has had enough of this connection

    def _connection(self, until: float) -> None:
        with socket.create_connection(self._address, timeout=10) as sock:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            connection.initiate_connection()
            sock.sendall(connection.data_to_send())
            while self.opened < self._streams and time.monotonic() < until:
                for _ in range(_AT_A_TIME):
                    stream = connection.get_next_available_stream_id()
                    connection.send_headers(stream, _HEADERS)
                    connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    self.opened += 1
                sock.sendall(connection.data_to_send())
                if not self._answered(sock, connection):
                    return
            # Only with the answer to this the server has seen all of them.
            connection.ping(b"are done")
            sock.sendall(connection.data_to_send())
            while not self.acknowledged and self._answered(sock, connection, wait_seconds=60.0):
                pass

    def _answered(
        self, sock: socket.socket, connection: h2.connection.H2Connection, wait_seconds: float = 0.0
    ) -> bool:
        """Takes what the server says; whether it goes on with this connection."""
        while select.select([sock], [], [], wait_seconds)[0]:
            data = sock.recv(1 << 16)
            if not data:
                return False
            events = connection.receive_data(data)
            if any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
                return False
            self.acknowledged |= any(isinstance(event, h2.events.PingAckReceived) for event in events)
            sock.sendall(connection.data_to_send())
            if wait_seconds:
                return True
        return not wait_seconds


class GoodCaller:
    """Upscales one image after the other; how many times, and the slowest."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.answers: set[str] = set()
        self.calls = 0
        self.failures: list[str] = []
        self.slowest_seconds = 0.0

    def __enter__(self) -> GoodCaller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        with Client(self._server.address, timeout=120) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    data = client.upscale(picture(24, 16), model=FAST).data
                    self.answers.add(hashlib.sha256(data).hexdigest())
                except Exception as error:
                    self.failures.append(repr(error))
                self.calls += 1
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--short", action="store_true", help="5000 streams")
    parser.add_argument("--out", type=Path, default=Path("bench-results/chaos_http2_resets.json"))
    options = parser.parse_args()
    streams = 5000 if options.short else options.streams
    with tempfile.TemporaryDirectory() as name, running_server(Path(name) / "server.log") as server:
        with Client(server.address, timeout=120) as client:
            expected = hashlib.sha256(client.upscale(picture(24, 16), model=FAST).data).hexdigest()
        time.sleep(_SETTLE_SECONDS)
        before = Levels.of(server.process.pid)
        attacker, began = Attacker(server.address, streams), time.monotonic()
        with GoodCaller(server) as good:
            attacker.run()
        seconds = time.monotonic() - began
        time.sleep(_SETTLE_SECONDS)
        after = Levels.of(server.process.pid)
        alive = server.process.poll() is None
        tracebacks = (Path(name) / "server.log").read_text(errors="replace").count("Traceback")
    growth = after.server_rss_bytes - before.server_rss_bytes
    right = (
        alive
        and attacker.opened >= streams
        and attacker.acknowledged
        and good.answers == {expected}
        and not good.failures
        and not tracebacks
        and growth <= _MOST_RSS_GROWTH_BYTES
        and after.descriptors <= before.descriptors + 2
        and after.processes <= before.processes
    )
    record = {
        "streams": attacker.opened,
        "connections": attacker.connections,
        "seconds": seconds,
        "good_calls": good.calls,
        "good_failures": good.failures,
        "slowest_good_call_seconds": good.slowest_seconds,
        "tracebacks": tracebacks,
        "before": asdict(before),
        "after": asdict(after),
        "held": right,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    answered = "all" if attacker.acknowledged else "NOT ALL"
    print(
        f"{attacker.opened} streams opened and reset in {seconds:.0f} s, {answered} answered for, "
        f"{attacker.connections} connections: RSS {before.server_rss_bytes >> 20} -> "
        f"{after.server_rss_bytes >> 20} MiB, descriptors {before.descriptors} -> {after.descriptors}; "
        f"{good.calls} good calls, {len(good.failures)} failed, the slowest {good.slowest_seconds:.1f} s; "
        f"{'held' if right else 'NOT HELD'}"
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
