"""`upscaled jobs watch`, and the waiting of the other commands."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from upscaled import Job, UpscaledError
from upscaled.cli.connect import Connection
from upscaled.cli.display import Display, open_display
from upscaled.cli.groups import grouped
from upscaled.cli.jobs import show
from upscaled.cli.jobs.common import JobIds, JsonOption, for_each


def follow(job: Job, name: str, display: Display, timeout: float | None = None) -> bool:
    """Shows a job until it has ended; whether it succeeded. DeadlineExceededError after `timeout` seconds."""
    display.begin(name, "waiting")
    try:
        job.wait(timeout, on_progress=display.progress)
    except KeyboardInterrupt:
        display.say(f"job {job.id} goes on; `upscaled jobs watch {job.id}` follows it again")
        raise
    except UpscaledError:
        if not job.done:
            raise
        # The job's own error is told below.
    finally:
        display.end()
    display.say(f"{name}: {show.ending(job)}")
    return job.state == "succeeded"


@grouped
def watch(
    ids: JobIds,
    *,
    connection: Connection,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Bound for each job.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow jobs until they have ended. Ends with 0 if all of them succeeded, else with 1."""
    with open_display() as display, connection.client() as client:

        def do(job: Job) -> bool:
            went_well = follow(job, job.id, display, timeout)
            if as_json:
                display.result(json.dumps(job.to_dict()))
            return went_well

        for_each(client, ids, do, say=display.say)
