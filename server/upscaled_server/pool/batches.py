"""A span for every batch that a device computes, linked with those of the images that were in it."""

from __future__ import annotations

from dataclasses import dataclass

from upscaled_server.pool.scheduler.policy import Grant, Unit
from upscaled_server.telemetry import tracing
from upscaled_server.telemetry.tracing import Span


@dataclass(slots=True)
class _Batch:
    span: Span
    left: int
    device_seconds: float = 0.0


class BatchSpans:
    """A batch is a part of the first image's trace, from its grant to its last answer; the spans of all its
    images and its own name each other. `upscaled.device_seconds` is what the worker says that it took."""

    def __init__(self) -> None:
        self._batches: dict[Grant, _Batch] = {}

    def granted(self, grant: Grant) -> None:
        if not tracing.recording():
            return
        spans = [unit.span for unit in grant.units]
        span = tracing.start(
            "batch",
            parent=spans[0],
            links=spans,
            attributes={"upscaled.device": grant.units[0].device, "upscaled.batch_size": len(spans)},
        )
        for each in spans:
            each.link(span)
        self._batches[grant] = _Batch(span, len(spans))

    def finished(self, unit: Unit, seconds: float | None) -> None:
        """One unit of a batch is over, after so many seconds of the device; None: without a result."""
        batch = None if unit.grant is None else self._batches.get(unit.grant)
        if unit.grant is None or batch is None:
            return
        batch.left -= 1
        if seconds is None:
            batch.span.fail("a step was not computed")
        else:
            batch.device_seconds += seconds
        if not batch.left:
            del self._batches[unit.grant]
            batch.span.set({"upscaled.device_seconds": round(batch.device_seconds, 6)})
            batch.span.end()
