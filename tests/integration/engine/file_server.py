"""A real HTTP server of one file, on this machine, that misbehaves on request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 2000


class FileServer(ThreadingHTTPServer):
    """`answer` is called with each request; `asked` holds the Range header of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.answer: Callable[[Handler], None] = lambda handler: handler.send_part(BODY)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    def log_message(self, *_: object) -> None:
        pass

    def offset(self) -> int:
        header = self.headers.get("Range")
        return int(header.removeprefix("bytes=").rstrip("-")) if header else 0

    def send_part(self, body: bytes, *, cut: int | None = None) -> None:
        """The body from the wanted offset on; with `cut`, only so many bytes of it before the connection
        ends."""
        offset = self.offset()
        self.send_response(206 if offset else 200)
        if offset:
            self.send_header("Content-Range", f"bytes {offset}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - offset))
        self.end_headers()
        self.wfile.write(body[offset:] if cut is None else body[offset : offset + cut])

    def send_status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
