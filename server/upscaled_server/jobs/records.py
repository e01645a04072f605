"""Jobs as they lie in the store: JSON, one entry each.

jobs/CALLER/ULID    the job
live/CALLER/ULID    {request, size}: a job without a final state, or one that is just being made or ended
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from upscaled_server.errors import ProcessingFailed
from upscaled_server.jobs.job import Job
from upscaled_server.state.store import Entry

JOBS = "jobs"
LIVE = "live"

_JOB = TypeAdapter(Job)


@dataclass(frozen=True, slots=True)
class Stored:
    """A job and the version of its entry."""

    job: Job
    version: int


@dataclass(frozen=True, slots=True)
class Live:
    """An entry under `live/`; `request_id` is what the caller gave, or empty; `size_bytes` those of the image
    that came along."""

    id: str
    caller: str
    request_id: str
    size_bytes: int = 0


def job_key(caller: str, job_id: str) -> str:
    return f"{JOBS}/{caller}/{job_id}"


def live_key(caller: str, job_id: str) -> str:
    return f"{LIVE}/{caller}/{job_id}"


def whose_live(key: str) -> tuple[str, str]:
    """The caller and the id of the job that a key under `live/` is for."""
    _, caller, job_id = key.split("/")
    return caller, job_id


def job_value(job: Job) -> bytes:
    # What the contract takes for not given need not be said: an entry is a third as long without it.
    return _JOB.dump_json(job, exclude_defaults=True)


def read_job(entry: Entry) -> Stored:
    """Raises `ProcessingFailed` for an entry that is no job."""
    try:
        return Stored(_JOB.validate_json(entry.value), entry.version)
    except ValidationError as error:
        raise _unreadable(entry) from error


def live_value(request_id: str, size_bytes: int) -> bytes:
    return json.dumps({"request": request_id, "size": size_bytes}, separators=(",", ":")).encode()


def read_live(entry: Entry) -> Live:
    """Raises `ProcessingFailed` for an entry that is none."""
    try:
        values = json.loads(entry.value)
        caller, job_id = whose_live(entry.key)
        return Live(job_id, caller, str(values["request"]), int(values["size"]))
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(entry) from error


def _unreadable(entry: Entry) -> ProcessingFailed:
    return ProcessingFailed(
        f"the entry {entry.key} cannot be read; put a backup of the database in its place", key=entry.key
    )
