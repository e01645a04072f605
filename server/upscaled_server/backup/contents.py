"""Which files a database names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from upscaled_server.intake.stored_records import StoredFile, input_from, output_from, output_path
from upscaled_server.jobs.job import Job, Origin, State
from upscaled_server.jobs.places import input_path, tile_path
from upscaled_server.jobs.records import JOBS, read_job
from upscaled_server.state.store import Entry

WAITING = "job-inputs"
"""The folder of images whose jobs have not ended; they go when the jobs end."""


@dataclass(frozen=True, slots=True)
class Named:
    """A file by its path among the blobs. `owner` says whose it is; `size_bytes` and `sha256` (hexadecimal)
    are what it must be, None and empty where nothing is written down of them. From `expires` on, in seconds
    since 1970, it may be gone."""

    path: str
    owner: str
    size_bytes: int | None = None
    sha256: str = ""
    expires: float = math.inf


def named_files(entries: Iterable[Entry]) -> list[Named]:
    """The files that must be there for everything in the database to be true; the soonest to go first.

    Raises `ProcessingFailed` for an entry that cannot be read.
    """
    named: dict[str, Named] = {}
    for entry in entries:
        kind = entry.key.partition("/")[0]
        if kind == "inputs":
            _add(named, "input", input_from(entry.value))
        elif kind == "outputs":
            _add(named, "output", output_from(entry.value))
        elif kind == JOBS:
            for each in _of_job(read_job(entry).job):
                # An output has an entry of its own, behind those of jobs, which knows more of it.
                named[each.path] = each
    return sorted(named.values(), key=lambda each: not each.path.startswith(f"{WAITING}/"))


def _add(named: dict[str, Named], kind: str, record: StoredFile) -> None:
    if not record.complete:
        return
    owner, expires = f"{kind} {record.id} of {record.caller}", record.expires_at
    # A job's output goes with the job, whatever its own entry says.
    of_job = named.pop(_unknown(record.id), None)
    if of_job is not None:
        expires = min(expires, of_job.expires)
    named[record.path] = Named(record.path, owner, record.size_bytes, record.sha256.hex(), expires)


def _of_job(job: Job) -> Iterable[Named]:
    owner = f"job {job.id} of {job.caller}"
    if not job.state.final:
        if job.input is not None and job.source.origin in (Origin.INLINE, Origin.URL):
            yield Named(input_path(job.id), owner, job.input.size_bytes, job.input.sha256)
    elif job.state is State.SUCCEEDED:
        expires = math.inf if job.expires is None else job.expires
        if job.output_id:
            yield Named(_unknown(job.output_id), owner, expires=expires)
        for sequence in range(job.tiles):
            yield Named(tile_path(job.id, sequence), owner, expires=expires)


def _unknown(output_id: str) -> str:
    """Stands for the file of a job's output until the output's own entry says which it is."""
    return output_path(output_id, "unknown")
