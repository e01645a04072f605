"""`upscaled jobs cancel` and `upscaled jobs delete`."""

from __future__ import annotations

from upscaled import Job
from upscaled.cli.connect import Connection
from upscaled.cli.groups import grouped
from upscaled.cli.jobs.common import JobIds, for_each, say


@grouped
def cancel(ids: JobIds, *, connection: Connection) -> None:
    """Stop jobs: queued ones at once, running ones within a moment."""
    with connection.client() as client:

        def do(job: Job) -> bool:
            ended = job.done
            job.cancel()
            being = "" if job.done else "is being cancelled, "
            say(f"{job.id}: {'had ended before, ' if ended else being}{job.state}")
            return True

        for_each(client, ids, do)


@grouped
def delete(ids: JobIds, *, connection: Connection) -> None:
    """Delete jobs that have ended, with their outputs."""
    with connection.client() as client:

        def do(job: Job) -> bool:
            job.delete()
            say(f"{job.id}: deleted")
            return True

        for_each(client, ids, do)
