"""An attempt at a job as a part of the trace that it was created in, and its log lines with its ids."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from upscaled_server.access.caller import ANONYMOUS
from upscaled_server.jobs.job import Job, State
from upscaled_server.telemetry import log_lines, tracing
from upscaled_server.telemetry.tracing import Attributes, Kind, Span

log = logging.getLogger("upscaled_server.jobs")


@contextmanager
def about(job: Job) -> Iterator[None]:
    """What is logged in the block is logged of this job."""
    caller = "" if job.caller == ANONYMOUS.name else job.caller
    with log_lines.bound_to(job_id=job.id, request_id=job.request_id, caller=caller):
        yield


@contextmanager
def attempt_of(job: Job, now: float) -> Iterator[Span]:
    """The span of an attempt that begins, from the moment on since which the job waits for it. `now` in
    seconds since 1970."""
    queued = time.monotonic() - max(0.0, now - job.queued_since)
    attributes: Attributes = {
        "upscaled.job_id": job.id,
        "upscaled.attempt": job.attempts + 1,
        "upscaled.request_id": job.request_id,
    }
    span = tracing.start(
        "job", parent=tracing.remote(job.traceparent), kind=Kind.CONSUMER, at=queued, attributes=attributes
    )
    tracing.start("job queue", parent=span, at=queued).end()
    with about(job), tracing.within(span):
        yield span


def note_outcome(span: Span, job: Job) -> None:
    """How the attempt ended, for the trace and the log; a job that was put back into the queue is no
    failure."""
    span.set({"upscaled.job_state": job.state.value})
    if job.state is State.FAILED and job.failure is not None:
        span.fail(job.failure.reason)
        log.info("job %s failed: %s", job.id, job.failure.message)
    else:
        log.debug("job %s is %s", job.id, job.state.value)
