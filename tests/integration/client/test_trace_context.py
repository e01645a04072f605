"""The application's trace goes with every call, where there is one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from upscaled import InvalidOptionError, trace_parent
from upscaled._aio.transport import Transport
from upscaled._tracing import trace_metadata

GIVEN = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def test_without_a_trace_a_call_carries_nothing_of_one() -> None:
    assert trace_metadata() == ()


def test_a_current_span_goes_with_the_calls_made_in_it() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    transport = Transport("127.0.0.1:1", api_key="k", tls=None)
    with tracer.start_as_current_span("work") as span:
        context = span.get_span_context()
        sent = dict(transport.metadata)
    ids = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    expected = f"00-{ids[0]}-{ids[1]}-{context.trace_flags:02x}"
    assert sent == {"authorization": "Bearer k", "traceparent": expected}
    assert dict(transport.metadata) == {"authorization": "Bearer k"}


def test_what_the_caller_gives_goes_before_a_current_span_and_ends_with_its_block() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    with tracer.start_as_current_span("work"):
        with trace_parent(GIVEN):
            assert trace_metadata() == (("traceparent", GIVEN),)
        assert trace_metadata() != (("traceparent", GIVEN),)


@pytest.mark.parametrize("given", ["", "x", GIVEN.upper(), GIVEN + "\r\nx: y", "00-" + "0" * 32 + GIVEN[35:]])
def test_what_is_no_header_is_refused_before_anything_is_sent(given: str) -> None:
    with pytest.raises(InvalidOptionError, match="traceparent"), trace_parent(given):
        pass


def test_opentelemetry_is_never_loaded_for_it() -> None:
    code = (
        "import sys, upscaled\n"
        "from upscaled._tracing import trace_metadata\n"
        "trace_metadata()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
