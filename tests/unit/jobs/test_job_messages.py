"""Jobs and the messages of the contract."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from jobs_tools import DONE, ended_job, queued_job

from upscaled.v1 import jobs_pb2, options_pb2
from upscaled_server.access.caller import Caller
from upscaled_server.api.job_translate import JobMessages, to_filters, to_new_job, to_wait
from upscaled_server.api.jobs import rendered
from upscaled_server.api.statuses import to_message
from upscaled_server.errors import InvalidField, Overloaded
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.jobs.following import Snapshot
from upscaled_server.jobs.job import Callback, Failure, Origin, State
from upscaled_server.jobs.payload import NewJob
from upscaled_server.pipeline.events import Progress, Stage

MESSAGES = JobMessages(lambda output, until: (f"https://x/{output}", until), "1.2.3")
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def _new(**fields: object) -> NewJob:
    fields.setdefault("source", options_pb2.Source(image=b"an image"))
    message = jobs_pb2.CreateJobRequest(**fields)  # type: ignore[arg-type]
    return to_new_job(message, Caller("anna"), KeepingSettings())


def test_a_finished_job_tells_where_its_output_is() -> None:
    job = replace(ended_job(), output_id="OUT")
    message = MESSAGES.job(Snapshot(job))
    (output,) = message.result.outputs
    assert (output.id, output.url, output.size_bytes) == ("OUT", "https://x/OUT", DONE.size_bytes)
    assert output.expire_time == message.expire_time
    assert not message.HasField("error")
    assert message.result.credits.charged == 0.25


def test_a_failed_job_has_the_status_that_a_call_would_have_ended_with() -> None:
    error = Overloaded("too much", retry_after_seconds=2.0, limit=3)
    status = base64.b64encode(to_message(error).SerializeToString()).decode()
    job = replace(ended_job(state=State.FAILED), failure=Failure(error.reason, error.message, status))
    message = MESSAGES.job(Snapshot(job))
    assert message.error == to_message(error)
    assert not message.HasField("result")


def test_a_running_job_shows_how_far_it_is() -> None:
    job = queued_job().begun(2e9)
    message = MESSAGES.job(Snapshot(job, Progress(Stage.INFER, 0.5, 1, 2), 1_000_005))
    assert (message.progress.fraction, message.last_event_number) == (0.5, 1_000_005)
    assert not message.HasField("end_time")


def test_a_callback_posts_the_job_as_json() -> None:
    job = replace(ended_job(), output_id="OUT", callback=Callback("https://receiver/"))
    posted = json.loads(rendered(MESSAGES, job))
    assert (posted["id"], posted["state"], posted["labels"]) == (
        job.id,
        "JOB_STATE_SUCCEEDED",
        {"album": "7"},
    )
    assert posted["result"]["outputs"][0]["url"] == "https://x/OUT"
    assert posted["callback"]["url"] == "https://receiver/"


@pytest.mark.parametrize(
    ("source", "origin", "description"),
    [
        ({"image": b"x"}, Origin.INLINE, "inline"),
        ({"url": "https://u:p@host/a.png?key=secret#part"}, Origin.URL, "https://host/a.png"),
        ({"input_id": ULID}, Origin.INPUT, ULID),
        ({"output_id": ULID}, Origin.OUTPUT, ULID),
    ],
)
def test_people_see_where_an_image_came_from_but_no_secret(
    source: dict[str, object], origin: Origin, description: str
) -> None:
    new = _new(source=options_pb2.Source(**source))  # type: ignore[arg-type]
    assert (new.source.origin, new.source.description) == (origin, description)
    assert "secret" not in repr(new)


def test_the_image_does_not_stay_in_the_message() -> None:
    message = jobs_pb2.CreateJobRequest(source=options_pb2.Source(image=b"an image"))
    new = to_new_job(message, Caller("anna"), KeepingSettings())
    assert new.image is not None
    assert new.image.data == b"an image"
    assert not message.source.image


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"source": options_pb2.Source()}, "source"),
        ({"source": options_pb2.Source(url="")}, "source.url"),
        ({"source": options_pb2.Source(url="x" * 2049)}, "source.url"),
        ({"source": options_pb2.Source(input_id="../x")}, "source.input_id"),
        ({"options": options_pb2.UpscaleOptions(delivery="DELIVERY_INLINE")}, "options.delivery"),
        ({"options": options_pb2.UpscaleOptions(delivery=77)}, "options.delivery"),
        ({"retention": Duration(seconds=-1)}, "retention"),
        ({"retention": Duration(seconds=60, nanos=-1)}, "retention.nanos"),
        ({"retention": Duration(seconds=10**9)}, "retention"),
        ({"request_id": "\n"}, "request_id"),
    ],
)
def test_what_no_job_can_be_made_of_is_refused_by_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        _new(**fields)
    assert caught.value.field == field


def test_a_caller_waits_as_long_as_it_asks_for_and_its_call_lasts() -> None:
    message = jobs_pb2.CreateJobRequest()
    assert to_wait(message, 9.0) is None
    message.wait.FromSeconds(5)
    assert (to_wait(message, 9.0), to_wait(message, 2.0)) == (5.0, 2.0)
    message.wait.FromSeconds(-5)
    with pytest.raises(InvalidField, match="wait"):
        to_wait(message, 9.0)


def test_filters_of_a_list_are_read() -> None:
    message = jobs_pb2.ListJobsRequest(
        states=["JOB_STATE_FAILED"], labels=["a=b=c"], created_after=Timestamp(seconds=5, nanos=500_000_000)
    )
    filters = to_filters(message)
    assert (filters.states, filters.labels) == (frozenset({State.FAILED}), (("a", "b=c"),))
    assert (filters.after, filters.before) == (5.5, None)


@pytest.mark.parametrize(
    "message",
    [
        jobs_pb2.ListJobsRequest(states=["JOB_STATE_UNSPECIFIED"]),
        jobs_pb2.ListJobsRequest(states=[99]),  # type: ignore[list-item]
        jobs_pb2.ListJobsRequest(labels=["a"]),
        jobs_pb2.ListJobsRequest(labels=["=b"]),
        jobs_pb2.ListJobsRequest(labels=["a=b"] * 33),
        jobs_pb2.ListJobsRequest(created_before=Timestamp(seconds=10**15)),
    ],
    ids=str,
)
def test_filters_that_are_none_are_refused(message: jobs_pb2.ListJobsRequest) -> None:
    with pytest.raises(InvalidField):
        to_filters(message)
