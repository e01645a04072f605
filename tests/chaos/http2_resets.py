"""Streams that are opened and reset at once, as fast as the server takes them.

python -m tests.chaos.http2_resets [--streams 100000] [--short] [--out FILE]

Written in raw HTTP/2 frames: the gRPC library is too polite for it. Meanwhile a good caller goes on calling.
"""

from __future__ import annotations

import hashlib
import select
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.chaos.http2 import UPSCALE_STREAM, connected, headers_of
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.sampling import RssSampler
from upscaled import Client

_AT_A_TIME = 50
_LONGEST_SECONDS = 600.0
_MOST_RSS_GROWTH_BYTES = 100 << 20


class Attacker:
    """Opens and resets until `streams` are done, over as many connections as the server makes it use."""

    def __init__(self, address: str, streams: int) -> None:
        self._address = address
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
        sock, connection = connected(self._address)
        with sock:
            sock.sendall(connection.data_to_send())
            while self.opened < self._streams and time.monotonic() < until:
                for _ in range(_AT_A_TIME):
                    stream = connection.get_next_available_stream_id()
                    connection.send_headers(stream, headers_of(UPSCALE_STREAM))
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
    parser = arguments("http2_resets", __doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=100_000)
    options = parser.parse_args()
    streams = 5000 if options.short else options.streams
    record = Record(
        "http2_resets",
        "HTTP/2 abuse",
        f"{streams} streams opened and reset at once in raw HTTP/2 frames, {_AT_A_TIME} in flight a time, "
        "while a good caller goes on calling",
        options.short,
        tried=streams,
    )
    with tempfile.TemporaryDirectory() as name, running_server(Path(name) / "server.log") as server:
        control = Control(server)
        attacker, began = Attacker(server.address, streams), time.monotonic()
        with RssSampler(server.process.pid) as rss, GoodCaller(server) as good:
            attacker.run()
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server)
        tracebacks = (Path(name) / "server.log").read_text(errors="replace").count("Traceback")
    record.held = attacker.opened
    if not attacker.acknowledged:
        record.not_held.append(f"after {attacker.opened} streams no ping was answered")
    record.not_held += [f"a good call failed: {each}" for each in good.failures]
    if len(good.answers) != 1:
        record.not_held.append(f"the good caller's image had {len(good.answers)} kinds of bytes")
    if tracebacks:
        record.not_held.append(f"{tracebacks} tracebacks are in the log")
    if rss.growth_bytes > _MOST_RSS_GROWTH_BYTES:
        record.not_held.append(f"RSS grew by {rss.growth_bytes >> 20} MiB")
    record.figures = {
        "connections": attacker.connections,
        "rss_growth_mib": rss.growth_bytes / (1 << 20),
        "good_calls": good.calls,
        "slowest_good_call_s": good.slowest_seconds,
    }
    record.series = {"rss_bytes": rss.series}
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
