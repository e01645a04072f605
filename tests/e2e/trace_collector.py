"""An OTLP collector that keeps the spans it is sent, over HTTP and over gRPC."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATH = "/v1/traces"


@dataclass(frozen=True)
class Span:
    """Ids are hexadecimal; moments are seconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    kind: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[str, ...]
    resource: dict[str, Any]


class Collector:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.spans: list[Span] = []
        self.requests = 0
        self.url = ""

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        found = list(_spans_of(request))
        with self._changed:
            self.requests += 1
            self.spans += found
            self._changed.notify_all()

    def trace(self, trace_id: str, *names: str, seconds: float = 20) -> list[Span]:
        """The spans of a trace once there is one of every name."""
        with self._changed:
            deadline = time.monotonic() + seconds
            while True:
                found = [span for span in self.spans if span.trace_id == trace_id]
                missing = set(names) - {span.name for span in found}
                if not missing:
                    return sorted(found, key=lambda span: span.began)
                left = deadline - time.monotonic()
                assert left > 0, f"no span {missing} in {[span.name for span in found]}"
                self._changed.wait(left)


@contextmanager
def collecting_http() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            right = self.path == PATH and self.headers["content-type"] == "application/x-protobuf"
            if right:
                collector.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if right else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@contextmanager
def collecting_grpc() -> Iterator[Collector]:
    collector = Collector()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - the contract's
            collector.take(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def unexplained(within: Span, spans: Iterable[Span]) -> float:
    """Seconds of the longest time within a span in which none of the others was going on."""
    reached, longest = within.began, 0.0
    for span in sorted(spans, key=lambda each: each.began):
        longest = max(longest, min(span.began, within.ended) - reached)
        reached = max(reached, span.ended)
    return max(longest, within.ended - reached)


def _spans_of(request: trace_service_pb2.ExportTraceServiceRequest) -> Iterator[Span]:
    for each in request.resource_spans:
        resource = _attributes(each.resource.attributes)
        for scope in each.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    span.kind,
                    span.status.code == 2,
                    _attributes(span.attributes),
                    tuple(link.span_id.hex() for link in span.links),
                    resource,
                )


def _attributes(values: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in values}
