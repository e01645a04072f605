"""Sends spans to a collector with OTLP. The only place that knows OpenTelemetry, loaded when it is wanted.

Nothing here may hold up the server: spans wait in a bounded queue, a thread of the library sends them, what
does not fit is dropped, and the end of the server waits `_CLOSE_SECONDS` for the last of them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.telemetry import tracing
from upscaled_server.telemetry.tracing import Attributes, Kind, Recorded

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_EXPORT_SECONDS = 5.0
"""For one request to the collector, its repetitions included; OTEL_EXPORTER_OTLP_TIMEOUT is another."""
_CLOSE_SECONDS = 3.0
_HTTP_PATH = "/v1/traces"
_PACKAGES = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.otlp.proto.grpc",
)


class TracingSettings(BaseSettings):
    """Everything else that OpenTelemetry can be told by its own variables (`OTEL_…`) is read from them."""

    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    traces_endpoint: str = Field(
        "",
        description="URL of the OTLP collector that spans are sent to, such as http://collector:4318; "
        "empty: none are recorded. Needs the extra `otel`.",
    )
    traces_protocol: Literal["http/protobuf", "grpc"] = Field(
        "http/protobuf", description="How the collector is spoken to; its usual ports are 4318 and 4317."
    )
    traces_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of traces that are recorded, of those that begin here; a caller that comes with a "
        "trace has decided.",
    )

    @field_validator("traces_endpoint")
    @classmethod
    def _usable(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL that begins with http:// or https://, with a host")
        if parts.username or parts.password or parts.query:
            raise ValueError("must be without user, password and query; OTEL_EXPORTER_OTLP_HEADERS has keys")
        if not _installed():
            raise ValueError("needs the extra `otel`: pip install 'upscaled[otel]'")
        return value


def _installed() -> bool:
    try:
        return all(map(importlib.util.find_spec, _PACKAGES))
    except ModuleNotFoundError:
        return False


@contextmanager
def exported(settings: TracingSettings, version: str) -> Iterator[None]:
    """Record and send spans while the context lasts, where an endpoint is set. Starts a thread."""
    if not settings.traces_endpoint:
        yield
        return
    # Of what is tried again it says nothing: a collector that is away for a day would fill the log.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    provider = _provider(settings, version)
    tracing.record_with(_Recorder(provider.get_tracer("upscaled", version)))
    try:
        yield
    finally:
        tracing.record_with(None)
        # It waits for the collector, for longer than a server may take to end; in a thread that ends with it.
        closing = threading.Thread(target=provider.shutdown, name="spans: the last", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def _provider(settings: TracingSettings, version: str) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.traces_sample_ratio)),
        resource=_resource(version),
        shutdown_on_exit=False,
    )
    # Without arguments: OTEL_BSP_… has the size of its queue (2048 spans) and how often it is emptied.
    provider.add_span_processor(BatchSpanProcessor(_exporter(settings)))
    return provider


def _resource(version: str) -> Resource:
    """Who we are; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = Resource.create({"service.name": "upscaled", "service.version": version})
    return ours.merge(OTELResourceDetector().detect())


def _exporter(settings: TracingSettings) -> SpanExporter:
    names = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    seconds = None if any(name in os.environ for name in names) else _EXPORT_SECONDS
    endpoint = settings.traces_endpoint
    if settings.traces_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc(endpoint=endpoint, timeout=seconds)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    if urlsplit(endpoint).path in ("", "/"):
        endpoint = endpoint.rstrip("/") + _HTTP_PATH
    return OverHttp(endpoint=endpoint, timeout=seconds)


class _Recorder:
    def __init__(self, tracer: trace.Tracer) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._tracer = tracer
        self._nowhere = Context()
        self._kinds = {kind: trace.SpanKind[kind.name] for kind in Kind}

    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Recorded | str,
        at: int,
        links: Sequence[Recorded],
        attributes: Attributes,
    ) -> _Recorded:
        from opentelemetry import trace

        context = self._nowhere
        if parent:
            above = parent.span if isinstance(parent, _Recorded) else _remote(str(parent))
            context = trace.set_span_in_context(above, self._nowhere)
        span = self._tracer.start_span(
            name,
            context,
            self._kinds[kind],
            attributes,
            [trace.Link(each.span.get_span_context()) for each in links if isinstance(each, _Recorded)],
            at,
        )
        return _Recorded(span)


def _remote(traceparent: str) -> trace.Span:
    from opentelemetry import trace

    _, trace_id, span_id, flags = traceparent.split("-")
    return trace.NonRecordingSpan(
        trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
    )


class _Recorded:
    __slots__ = ("span",)

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    @property
    def traceparent(self) -> str:
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, attributes: Attributes) -> None:
        if self.span.is_recording():
            self.span.set_attributes(attributes)

    def link(self, other: Recorded) -> None:
        if self.span.is_recording() and isinstance(other, _Recorded):
            self.span.add_link(other.span.get_span_context())

    def fail(self, description: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        if self.span.is_recording():
            self.span.set_status(Status(StatusCode.ERROR, description))

    def end(self, at: int) -> None:
        if self.span.is_recording():
            self.span.end(at)
