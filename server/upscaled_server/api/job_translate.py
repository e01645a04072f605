"""Between the messages of `Jobs` and jobs, both ways."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from upscaled.v1 import jobs_pb2, options_pb2, result_pb2
from upscaled_server.access.caller import Caller
from upscaled_server.api import translate
from upscaled_server.api.admin_translate import to_seconds
from upscaled_server.api.choices import DELIVERY, known
from upscaled_server.api.stored_outputs import Sign, add_address
from upscaled_server.errors import InvalidField
from upscaled_server.intake.fetch.urls import shown
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.source_kinds import InputId, OutputId, Url
from upscaled_server.jobs.following import JobEvent, Snapshot
from upscaled_server.jobs.job import Callback, CallbackState, Job, JobSource, Origin, State
from upscaled_server.jobs.listing import Filters
from upscaled_server.jobs.payload import NewJob
from upscaled_server.pipeline.request import Bytes

_STATE = {
    State.QUEUED: jobs_pb2.JOB_STATE_QUEUED,
    State.RUNNING: jobs_pb2.JOB_STATE_RUNNING,
    State.SUCCEEDED: jobs_pb2.JOB_STATE_SUCCEEDED,
    State.FAILED: jobs_pb2.JOB_STATE_FAILED,
    State.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
}
_CALLBACK = {
    CallbackState.PENDING: jobs_pb2.CALLBACK_STATE_PENDING,
    CallbackState.DELIVERED: jobs_pb2.CALLBACK_STATE_DELIVERED,
    CallbackState.FAILED: jobs_pb2.CALLBACK_STATE_FAILED,
}
_STATE_OF = {number: state for state, number in _STATE.items()}

_MAX_LABEL_FILTERS = 32
_LONGEST_WAIT = 366 * 24 * 3600.0


def to_new_job(message: jobs_pb2.CreateJobRequest, caller: Caller, keeping: KeepingSettings) -> NewJob:
    """Raises `InvalidField`."""
    source = translate.to_source(message.source)
    # The message lives as long as the call, which may wait: without this, so would the encoded image.
    message.source.Clear()
    known("options.delivery", DELIVERY, message.options.delivery)
    if message.options.delivery == options_pb2.DELIVERY_INLINE:
        raise InvalidField(
            "options.delivery", "cannot be met by jobs", limit="DELIVERY_URL", actual="DELIVERY_INLINE"
        )
    message.options.delivery = options_pb2.DELIVERY_URL
    retention = None
    if message.HasField("retention"):
        retention = translate.to_seconds("retention", message.retention)
        keeping.retention("retention", retention)
    return NewJob(
        caller=caller,
        source=_to_job_source(source),
        options=translate.to_options(message.options),
        image=source if isinstance(source, Bytes) else None,
        request_id=translate.to_request_id(message.request_id),
        callback_url=message.callback_url,
        retention=retention,
    )


def to_wait(message: jobs_pb2.CreateJobRequest, longest: float) -> float | None:
    """Seconds; None where the caller does not wait. Raises `InvalidField`."""
    if not message.HasField("wait"):
        return None
    return min(to_seconds("wait", message.wait, low=0, high=_LONGEST_WAIT), longest)


def to_filters(message: jobs_pb2.ListJobsRequest) -> Filters:
    """Raises `InvalidField`."""
    unknown = [number for number in message.states if number not in _STATE_OF]
    if unknown:
        raise InvalidField("states", "is not a known value", limit="1 to 5", actual=unknown[0])
    if len(message.labels) > _MAX_LABEL_FILTERS:
        raise InvalidField(
            "labels", "has too many entries", limit=_MAX_LABEL_FILTERS, actual=len(message.labels)
        )
    labels = []
    for each in message.labels:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise InvalidField("labels", "is not a label", limit="key=value", actual=ascii(each[:80]))
        labels.append((key, value))
    return Filters(
        states=frozenset(_STATE_OF[number] for number in message.states),
        labels=tuple(labels),
        after=_to_time("created_after", message.created_after) if message.HasField("created_after") else None,
        before=(
            _to_time("created_before", message.created_before) if message.HasField("created_before") else None
        ),
    )


@dataclass(frozen=True, slots=True)
class JobMessages:
    """Makes messages of jobs; `sign` gives the URLs of their outputs."""

    sign: Sign
    server_version: str

    def job(self, snapshot: Snapshot) -> jobs_pb2.Job:
        job = snapshot.job
        message = jobs_pb2.Job(
            id=job.id,
            state=_STATE[job.state],
            request_id=job.request_id,
            options=translate.from_options(job.options),
            labels=job.labels,
            plan=None if job.plan is None else translate.from_plan(job.plan),
            result=self._result(job),
            error=None if job.failure is None else _status(job.failure.status),
            callback=None if job.callback is None else _callback(job.callback),
            create_time=_timestamp(job.created),
            start_time=_timestamp(job.started),
            end_time=_timestamp(job.ended),
            expire_time=_timestamp(job.expires),
            attempts=job.attempts,
            last_event_number=max(snapshot.last_event, job.last_event),
            input=_input(job),
        )
        if snapshot.progress is not None:
            message.progress.CopyFrom(translate.from_progress(snapshot.progress))
        return message

    def event(self, event: JobEvent) -> jobs_pb2.JobEvent:
        message = jobs_pb2.JobEvent(number=event.number, time=_timestamp(event.time))
        if isinstance(event.what, Job):
            message.job.CopyFrom(self.job(Snapshot(event.what)))
        else:
            message.progress.CopyFrom(translate.from_progress(event.what))
        return message

    def _result(self, job: Job) -> result_pb2.UpscaleResult | None:
        if job.done is None:
            return None
        result = translate.from_done(job.done, request_id=job.request_id, server_version=self.server_version)
        if not job.output_id:
            del result.outputs[:]
        elif job.expires is not None:
            add_address(result, job.output_id, job.expires, self.sign)
        return result


def _to_job_source(source: Bytes | Url | InputId | OutputId) -> JobSource:
    match source:
        case Url():
            return JobSource(Origin.URL, source.url, shown(source.url))
        case InputId():
            return JobSource(Origin.INPUT, source.id, source.id)
        case OutputId():
            return JobSource(Origin.OUTPUT, source.id, source.id)
        case Bytes():
            return JobSource(Origin.INLINE)


def _input(job: Job) -> jobs_pb2.InputSummary:
    message = jobs_pb2.InputSummary(description=job.source.description)
    if job.input is not None:
        message.size_bytes = job.input.size_bytes
        message.sha256 = bytes.fromhex(job.input.sha256)
    return message


def _callback(callback: Callback) -> jobs_pb2.Callback:
    return jobs_pb2.Callback(
        url=callback.url,
        state=_CALLBACK[callback.state],
        attempts=callback.attempts,
        last_http_status=callback.last_http_status,
        next_attempt_time=_timestamp(callback.next_attempt),
    )


def _status(encoded: str) -> status_pb2.Status:
    status: status_pb2.Status = status_pb2.Status.FromString(base64.b64decode(encoded))
    return status


def _to_time(field: str, stamp: Timestamp) -> float:
    if not (-62_135_596_800 <= stamp.seconds <= 253_402_300_799 and 0 <= stamp.nanos < 1_000_000_000):
        raise InvalidField(
            field, "is not a time", limit="the years 1 to 9999", actual=f"{stamp.seconds} seconds"
        )
    return float(stamp.seconds + stamp.nanos / 1e9)


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
