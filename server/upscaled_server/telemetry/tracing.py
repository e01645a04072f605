"""Spans: what was done for a call or a job, when, and as a part of what.

The rest of the server begins and ends spans here and knows no library. Off, which is the default, nothing is
recorded; a span then only carries the trace that its caller named, so that log lines have it and a job keeps
it. `otlp.py` turns recording on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Protocol, TypeAlias

# Version 00 of https://www.w3.org/TR/trace-context/, the only one.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Attributes: TypeAlias = Mapping[str, str | int | float | bool]


class Kind(Enum):
    """What a span is to the trace, as OpenTelemetry has it."""

    INTERNAL = "internal"
    SERVER = "server"
    CONSUMER = "consumer"
    CLIENT = "client"


class Recorded(Protocol):
    """The recorder's side of a span. Moments are nanoseconds since 1970."""

    @property
    def traceparent(self) -> str: ...

    def set(self, attributes: Attributes) -> None: ...

    def link(self, other: Recorded) -> None: ...

    def fail(self, description: str) -> None: ...

    def end(self, at: int) -> None: ...


class Recorder(Protocol):
    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Recorded | str,
        at: int,
        links: Sequence[Recorded],
        attributes: Attributes,
    ) -> Recorded:
        """`parent`: a span of ours, the `traceparent` of somebody else's, or empty for a trace's first."""
        ...


_recorder: Recorder | None = None


class Span:
    """Something that takes time. Everything here is harmless on one that is not recorded, or has ended."""

    __slots__ = ("_recorded", "_traceparent")

    def __init__(self, traceparent: str = "", recorded: Recorded | None = None) -> None:
        self._traceparent = traceparent
        self._recorded = recorded

    @property
    def traceparent(self) -> str:
        """As the W3C's header, for whoever goes on with the trace; empty where there is none."""
        return self._traceparent if self._recorded is None else self._recorded.traceparent

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or empty."""
        return self.traceparent[3:35]

    def set(self, attributes: Attributes) -> None:
        if self._recorded is not None:
            self._recorded.set(attributes)

    def link(self, other: Span) -> None:
        """The other span had to do with this one, without being a part of it."""
        if self._recorded is not None and other._recorded is not None:
            self._recorded.link(other._recorded)

    def fail(self, description: str) -> None:
        """It did not do what it was to do. The description may hold nothing that is secret."""
        if self._recorded is not None:
            self._recorded.fail(description)

    def end(self, at: float | None = None) -> None:
        """`at`: a moment of `time.monotonic()`, by default now."""
        if self._recorded is not None:
            self._recorded.end(_nanoseconds(at))


NOTHING = Span()

_current: ContextVar[Span] = ContextVar("span", default=NOTHING)


def current() -> Span:
    """What is being done here."""
    return _current.get()


def recording() -> bool:
    """Whether spans are recorded at all."""
    return _recorder is not None


def record_with(recorder: Recorder | None) -> None:
    """From now on, spans are recorded here; None: no more."""
    global _recorder
    _recorder = recorder


def remote(traceparent: str) -> Span:
    """The span of somebody else, by what a header says; `NOTHING` where that is not valid."""
    return Span(traceparent) if _TRACEPARENT.fullmatch(traceparent) else NOTHING


def start(
    name: str,
    *,
    parent: Span | None = None,
    kind: Kind = Kind.INTERNAL,
    at: float | None = None,
    links: Sequence[Span] = (),
    attributes: Attributes = {},  # noqa: B006 - it is only read
) -> Span:
    """A span that is to be ended. `parent`: by default the current one. `at`: a moment of
    `time.monotonic()`, by default now."""
    above = _current.get() if parent is None else parent
    if _recorder is None:
        # Without anything to end, so that ending it does not end what it was begun under.
        return above
    recorded = _recorder.start(
        name,
        kind=kind,
        parent=above.traceparent if above._recorded is None else above._recorded,
        at=_nanoseconds(at),
        links=[each._recorded for each in links if each._recorded is not None],
        attributes=attributes,
    )
    return Span(recorded=recorded)


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """The span is the current one in the block, and ends with it.

    Not around a `yield` of an asynchronous generator: what is current would leak to who iterates.
    """
    token = _current.set(span)
    try:
        yield span
    finally:
        _current.reset(token)
        span.end()


class Activity:
    """Something that is done by turns with other things, such as one stage of an image: one span from the
    beginning of its first turn to the end of its last, with `upscaled.busy_seconds`, the sum of the turns.
    """

    __slots__ = ("_busy", "_last", "_name", "_parent", "_span")

    def __init__(self, name: str, parent: Span) -> None:
        self._name = name
        self._parent = parent
        self._span: Span | None = None
        self._busy = 0.0
        self._last: float | None = None

    def begin(self, at: float | None = None) -> Span:
        """Its span, begun now where it is new; `at` as for `start`."""
        if self._span is None:
            self._span = start(self._name, parent=self._parent, at=at)
        return self._span

    def turn(self, began: float, ended: float) -> None:
        """One turn is over; moments of `time.monotonic()`."""
        self.begin(began)
        self._busy += ended - began
        self._last = ended

    @contextmanager
    def during(self) -> Iterator[None]:
        """One turn."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.turn(began, time.monotonic())

    def end(self) -> None:
        """There will be no more turns."""
        if self._span is not None:
            self._span.set({"upscaled.busy_seconds": round(self._busy, 6)})
            self._span.end(self._last)


def _nanoseconds(at: float | None) -> int:
    """Since 1970, of a moment of `time.monotonic()`."""
    now = time.time_ns()
    return now if at is None else now - round((time.monotonic() - at) * 1e9)
