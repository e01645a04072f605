"""States of a job, the numbers of their events, and what lies in the store."""

from __future__ import annotations

import pytest
from jobs_tools import ended_job, queued_job

from upscaled_server.errors import ProcessingFailed
from upscaled_server.jobs.job import EVENTS_PER_ATTEMPT, State
from upscaled_server.jobs.records import job_value, read_job
from upscaled_server.state.store import Entry


def test_events_of_a_later_attempt_come_after_all_of_the_one_before() -> None:
    first = queued_job().begun(10.0)
    last_of_first = first.attempts * EVENTS_PER_ATTEMPT + EVENTS_PER_ATTEMPT - 2
    back = first.put_back(11.0)
    second = back.begun(12.0)
    ended = second.ended_as(State.SUCCEEDED, 13.0)
    assert first.last_event < last_of_first < back.last_event < second.last_event < ended.last_event


def test_a_job_that_ends_in_the_queue_has_a_new_event() -> None:
    back = queued_job().begun(10.0).put_back(11.0)
    assert back.ended_as(State.CANCELLED, 12.0).last_event > back.last_event


def test_a_job_is_kept_from_its_end_on() -> None:
    ended = queued_job().begun(10.0).ended_as(State.FAILED, 100.0)
    assert (ended.ended, ended.expires) == (100.0, 100.0 + ended.retention)


def test_a_job_is_shown_as_it_was_after_each_change() -> None:
    job = ended_job()
    shown = [job.as_of(change) for change in job.changes]
    assert [each.state for each in shown] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert [each.attempts for each in shown] == [0, 1, 1]
    assert [each.done is None for each in shown] == [True, True, False]
    assert [each.last_event for each in shown] == [change.number for change in job.changes]
    assert shown[0].started is None
    assert shown[1].ended is None


def test_changes_are_bounded_and_the_first_and_last_stay() -> None:
    job = queued_job()
    for attempt in range(200):
        job = job.begun(float(attempt)).put_back(float(attempt))
    assert len(job.changes) <= 64
    assert job.changes[0].number == 1
    numbers = [change.number for change in job.changes]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 201 * EVENTS_PER_ATTEMPT - 1


@pytest.mark.parametrize("job", [queued_job(), ended_job(), ended_job(state=State.FAILED)])
def test_a_job_is_read_back_as_it_was_written(job: object) -> None:
    entry = Entry("jobs/anna/x", job_value(job), 7)  # type: ignore[arg-type]
    stored = read_job(entry)
    assert (stored.job, stored.version) == (job, 7)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"id": 1}', b"\xff"])
def test_an_entry_that_is_no_job_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(ProcessingFailed, match="jobs/anna/x"):
        read_job(Entry("jobs/anna/x", value, 1))
