"""`upscaled jobs download`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from upscaled import Job
from upscaled._aio.outputs import safe_name
from upscaled.cli.connect import Connection
from upscaled.cli.display import Display, open_display
from upscaled.cli.groups import grouped
from upscaled.cli.jobs.common import JobIds, JsonOption, for_each
from upscaled.cli.jobs.follow import follow


@grouped
def download(
    ids: JobIds,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File for one job, folder for several. Default: the output's own name, here.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for jobs that go on.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Whether existing files are replaced.")
    ] = False,
    *,
    connection: Connection,
    as_json: JsonOption = False,
) -> None:
    """Fetch results. A broken download goes on where it broke, and the file appears when it is proven."""
    if output is not None and len(ids) > 1:
        if output.exists() and not output.is_dir():
            raise typer.BadParameter(f"-o {output}: several jobs need a folder, and this is a file")
        output.mkdir(parents=True, exist_ok=True)
    with open_display() as display, connection.client() as client:

        def do(job: Job) -> bool:
            return _fetch(job, output, display, wait=wait, overwrite=overwrite, as_json=as_json)

        for_each(client, ids, do, say=display.say)


def _fetch(
    job: Job, output: Path | None, display: Display, *, wait: bool, overwrite: bool, as_json: bool
) -> bool:
    if wait and not job.done and not follow(job, job.id, display):
        return False
    if job.result is None:
        hint = "; --wait waits for it" if not job.done else ""
        display.say(f"{job.id}: {job.state}, so there is nothing to fetch{hint}")
        return False
    target = output or Path()
    if target.is_dir():
        target /= safe_name(job.result.output)
    if target.exists() and not overwrite:
        display.say(f"{job.id}: {target} exists; --overwrite replaces it")
        return False
    display.begin(target.name, "fetching")
    try:
        job.download(target)
    finally:
        display.end()
    display.result(json.dumps({**job.to_dict(), "path": str(target)}) if as_json else str(target))
    return True
