"""The caller's trace, for the server to go on with: W3C trace context in the metadata of every call."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from upscaled._errors import InvalidOptionError

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_HEADERS: Final = ("traceparent", "tracestate")

_given: ContextVar[str] = ContextVar("upscaled_traceparent", default="")


@contextmanager
def trace_parent(traceparent: str) -> Iterator[None]:
    """Calls made in the block are parts of this trace, a `traceparent` header of the W3C's as one's own
    caller may have sent it. Without it, and with OpenTelemetry in the application, calls are parts of the
    current span by themselves.

    Raises InvalidOptionError for what is no such header.
    """
    if not _TRACEPARENT.fullmatch(traceparent):
        raise InvalidOptionError(
            f"traceparent: must be like 00-<32 hexadecimal digits>-<16>-<2>; got {traceparent!r}"
        )
    token = _given.set(traceparent)
    try:
        yield
    finally:
        _given.reset(token)


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """What a call that begins here carries; nothing where there is no trace."""
    if given := _given.get():
        return (("traceparent", given),)
    # An application with a current span has imported this; nobody else pays for it.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((name, carrier[name]) for name in _HEADERS if name in carrier)
