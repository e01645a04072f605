"""The port for those who watch the server: /metrics, /livez, /readyz. Not for callers; it knows no keys."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.telemetry import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

# A loop that answers nothing for this long does nothing for callers either.
_LOOP_SECONDS = 5.0
_TEXT = "text/plain; charset=utf-8"


class ProbeSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    metrics_listen: str = Field(
        "",
        description="HOST:PORT for Prometheus and probes: /metrics, /livez, /readyz. Empty: none. It asks "
        "for no key, so callers must not reach it.",
    )

    @field_validator("metrics_listen")
    @classmethod
    def _check(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isdigit() and int(port) <= 65535):
            raise ValueError("must be HOST:PORT")
        return value


class Probes:
    """Serves from threads of its own; what it tells is asked of the event loop, so that it also shows whether
    that is alive. Metrics are written out in the thread, so that a scrape holds up no call."""

    def __init__(
        self,
        listen: str,
        snapshot: Callable[[], metrics.Values],
        is_ready: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Raises OSError if the port cannot be had."""
        self._snapshot = snapshot
        self._is_ready = is_ready
        self._loop = loop
        host, _, port = listen.rpartition(":")
        self._server = make_server(
            host.strip("[]"), int(port), self._answer, server_class=_Server, handler_class=_Handler
        )
        self.address = f"{host}:{self._server.server_port}"
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, name="upscaled-probes", daemon=True)
        self._thread.start()
        log.info("metrics and probes on %s", self.address)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        pages = {"/metrics": self._metrics, "/livez": self._live, "/readyz": self._ready}
        tell = pages.get(environ["PATH_INFO"])
        if tell is None or environ["REQUEST_METHOD"] != "GET":
            status, kind, body = "404 Not Found", _TEXT, b"/metrics, /livez and /readyz are here\n"
        else:
            try:
                status, kind, body = tell()
            except TimeoutError:
                status, kind, body = "503 Service Unavailable", _TEXT, b"the event loop does not answer\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _metrics(self) -> tuple[str, str, bytes]:
        return "200 OK", CONTENT_TYPE_LATEST, metrics.exposition(self._ask(self._snapshot))

    def _live(self) -> tuple[str, str, bytes]:
        self._ask(lambda: None)
        return "200 OK", _TEXT, b"ok\n"

    def _ready(self) -> tuple[str, str, bytes]:
        if self._ask(self._is_ready):
            return "200 OK", _TEXT, b"ok\n"
        return "503 Service Unavailable", _TEXT, b"not serving\n"

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer of the event loop. Raises TimeoutError."""
        answer: Future[Any] = Future()

        def call() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # the asking thread's to handle
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return answer.result(_LOOP_SECONDS)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
