"""`upscaled usage`."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from typing import Annotated

import typer

from upscaled import Usage
from upscaled.cli.connect import Connection
from upscaled.cli.groups import grouped
from upscaled.cli.moments import moment, shown
from upscaled.cli.report import size_text
from upscaled.cli.tables import print_table

_COLUMNS = ("caller", "start", "end", "model", "requests", "output_megapixels", "credits")


@grouped
def usage(
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="2026-11-01, 2026-11-01T08:30, 7d. Default: this month."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Default: now.")] = None,
    *,
    connection: Connection,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line per model, with a heading.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what the key's owner has used, by model, and what is left this month."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    start, end = moment(since), moment(until)
    with connection.client() as client:
        used = client.usage(start, end)
    if as_json:
        typer.echo(json.dumps(_as_dict(used)))
    elif as_csv:
        _print_csv(used)
    else:
        _print(used)


def _print(used: Usage) -> None:
    rows = [[m.model, str(m.requests), f"{m.output_megapixels:.2f}", f"{m.credits:.4f}"] for m in used.models]
    total = [
        str(sum(m.requests for m in used.models)),
        f"{sum(m.output_megapixels for m in used.models):.2f}",
        f"{used.credits_used:.4f}",
    ]
    typer.echo(f"{used.caller}, {shown(used.start_time)} to {shown(used.end_time)}")
    headings = ("model", "requests", "megapixels", "credits")
    print_table(headings, [*rows, ["total", *total]], right=headings[1:])
    if used.credits_remaining is not None:
        of = f" of {used.credits_monthly:g}" if used.credits_monthly is not None else ""
        typer.echo(f"{used.credits_remaining:g}{of} credits left this month")
    typer.echo(f"{size_text(used.stored_bytes)} stored")


def _print_csv(used: Usage) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    period = [used.caller, shown(used.start_time), shown(used.end_time)]
    for m in used.models:
        writer.writerow([*period, m.model, m.requests, m.output_megapixels, m.credits])


def _as_dict(used: Usage) -> dict[str, object]:
    found = dataclasses.asdict(used)
    for name in ("start_time", "end_time"):
        when = getattr(used, name)
        found[name] = when.isoformat() if when else None
    return found
