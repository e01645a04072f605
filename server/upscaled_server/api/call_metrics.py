"""What is counted of the calls of one method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from upscaled_server.telemetry import metrics

Parse: TypeAlias = Callable[[bytes], Any]
Serialize: TypeAlias = Callable[[Any], bytes]


@dataclass(slots=True)
class Outcome:
    """How a call ends; as it is set, unless the caller leaves."""

    code: grpc.StatusCode = grpc.StatusCode.CANCELLED


class CallMetrics:
    """`method` is the full name, `/upscaled.v1.Upscaler/Upscale`."""

    def __init__(self, method: str) -> None:
        self._names = tuple(method.removeprefix("/").split("/"))
        self._running = metrics.RPCS_RUNNING.labels(*self._names)
        self._received = metrics.RPC_RECEIVED.labels(*self._names)
        self._sent = metrics.RPC_SENT.labels(*self._names)
        self._durations: dict[grpc.StatusCode, Any] = {}

    @contextmanager
    def call(self) -> Iterator[Outcome]:
        """Around one call."""
        self._running.inc()
        began, outcome = time.perf_counter(), Outcome()
        try:
            yield outcome
        finally:
            self._running.dec()
            self._duration(outcome.code).observe(time.perf_counter() - began)

    def receiving(self, parse: Parse) -> Parse:
        """`parse`, with the size of every message counted."""

        def deserialize(data: bytes) -> Any:
            self._received.inc(len(data))
            return parse(data)

        return deserialize

    def sending(self, serialize: Serialize | None) -> Serialize:
        """`serialize`, with the size of every message counted."""

        def counted(message: Any) -> bytes:
            data: bytes = message if serialize is None else serialize(message)
            self._sent.inc(len(data))
            return data

        return counted

    def _duration(self, code: grpc.StatusCode) -> Any:
        found = self._durations.get(code)
        if found is None:
            found = self._durations[code] = metrics.RPCS.labels(*self._names, code.name)
        return found
