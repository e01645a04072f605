"""`upscaled jobs …`: work that outlives the command."""

from __future__ import annotations

import typer

from upscaled.cli.jobs.ending import cancel, delete
from upscaled.cli.jobs.fetch import download
from upscaled.cli.jobs.follow import watch
from upscaled.cli.jobs.look import get, list_jobs
from upscaled.cli.jobs.submit import submit


def build() -> typer.Typer:
    app = typer.Typer(help="Work that the server keeps until it is done.", no_args_is_help=True)
    app.command("submit")(submit)
    app.command("list")(list_jobs)
    app.command("get")(get)
    app.command("watch")(watch)
    app.command("download")(download)
    app.command("cancel")(cancel)
    app.command("delete")(delete)
    return app
