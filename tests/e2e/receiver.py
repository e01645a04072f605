"""An HTTP server of this machine that serves one file and keeps what is posted to it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Callback = tuple[bytes, dict[str, str]]


@dataclass
class Receiver:
    """`callbacks` are bodies and headers, in the order in which they came."""

    origin: str
    callbacks: queue.Queue[Callback] = field(default_factory=queue.Queue)

    def wait_for_callback(self, seconds: float) -> Callback:
        return self.callbacks.get(timeout=seconds)


@contextmanager
def receiver(image: bytes) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, image)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.callbacks.put((body, {name.lower(): value for name, value in self.headers.items()}))
            self._answer(204, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
