"""`upscaled jobs list` and `upscaled jobs get`."""

from __future__ import annotations

import itertools
import json
from typing import Annotated

import typer

from upscaled import Job
from upscaled import _enums as enums
from upscaled.cli.connect import Connection
from upscaled.cli.groups import grouped
from upscaled.cli.jobs import show
from upscaled.cli.jobs.common import JobIds, JsonOption, LabelOption, for_each, labels_of
from upscaled.cli.moments import moment
from upscaled.cli.tables import print_table

_LIMIT = 50


def _states(given: list[str] | None) -> list[str] | None:
    for name in given or ():
        if name not in enums.JOB_STATE.names:
            raise typer.BadParameter(f"one of {', '.join(enums.JOB_STATE.names)} is expected; got {name!r}")
    return given


@grouped
def list_jobs(
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            callback=_states,
            help="queued, running, succeeded, failed or cancelled; may be given several times.",
        ),
    ] = None,
    label: LabelOption = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Created then or later: 2026-11-01, 2026-11-01T08:30, 2h, 7d."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Created before.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the newest; 0: all.")] = _LIMIT,
    *,
    connection: Connection,
    as_json: JsonOption = False,
) -> None:
    """List your jobs, newest first."""
    wanted, after, before = labels_of(label), moment(since), moment(until)
    with (
        connection.client() as client,
        client.jobs.list(
            states=states, labels=wanted, created_after=after, created_before=before, page_size=limit or 1000
        ) as jobs,
    ):
        shown = itertools.islice(jobs, limit or None)
        if as_json:
            for job in shown:
                typer.echo(json.dumps(job.to_dict()))
            return
        rows = [show.row(job) for job in shown]
        more = bool(limit) and len(rows) == limit and next(jobs, None) is not None
    if not rows:
        typer.echo("no jobs", err=True)
        return
    print_table(show.HEADINGS, rows, right=["took"])
    if more:
        typer.echo(f"the newest {limit}; --limit shows more", err=True)


@grouped
def get(ids: JobIds, *, connection: Connection, as_json: JsonOption = False) -> None:
    """Show jobs as they are now."""
    with connection.client() as client:

        def tell(job: Job) -> bool:
            if as_json:
                typer.echo(json.dumps(job.to_dict()))
                return True
            for line in show.lines(job):
                typer.echo(line)
            if len(ids) > 1:
                typer.echo("")
            return True

        for_each(client, ids, tell)
