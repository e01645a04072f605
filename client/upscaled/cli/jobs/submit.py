"""`upscaled jobs submit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from upscaled import Job, Options, UpscaledError, Url
from upscaled._sources import URL_BEGINS
from upscaled.cli.batch import HOPELESS
from upscaled.cli.connect import Connection
from upscaled.cli.display import open_display
from upscaled.cli.groups import grouped
from upscaled.cli.image_options import ImageOptions
from upscaled.cli.jobs.common import JsonOption, LabelOption, labels_of
from upscaled.cli.jobs.follow import follow
from upscaled.cli.moments import span
from upscaled.cli.targets import UsageError, images_in


@grouped
def submit(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN", help="Images, folders whose images are taken, or URLs that the server fetches."
        ),
    ],
    *,
    image: ImageOptions,
    label: LabelOption = None,
    callback: Annotated[
        str | None,
        typer.Option("--callback", metavar="URL", help="Where each job is posted when it has ended."),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="How long results are kept: 12h, 7d. Default: the server's."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--request-id", metavar="ID", help="For one image: the same id again gives the same job."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the jobs have ended.")] = False,
    connection: Connection,
    as_json: JsonOption = False,
) -> None:
    """Give images to a server to enlarge, and print the ids of the jobs.

    The jobs go on whatever becomes of this command; `upscaled jobs download` fetches the results.
    """
    try:
        image.check()
        sources = _sources(inputs)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    if request_id is not None and len(sources) > 1:
        raise typer.BadParameter("--request-id is for one image; each of several would need its own")
    kept = span(retention)
    options: Options = {**image.options(image.format_), "labels": labels_of(label)}
    failed = 0
    with open_display() as display, connection.client() as client:
        jobs: list[tuple[str, Job]] = []
        for source in sources:
            name = source.url if isinstance(source, Url) else source.name
            display.begin(name)
            try:
                job = client.jobs.create(
                    source,
                    callback_url=callback,
                    retention=kept,
                    request_id=request_id,
                    **options,
                )
            except HOPELESS:
                raise
            except UpscaledError as error:
                display.say(f"{name}: {error}")
                failed += 1
                continue
            finally:
                display.end()
            jobs.append((name, job))
            display.say(f"{name}: {job.state} as job {job.id}")
            if not as_json:
                display.result(job.id)
        for name, job in jobs:
            if wait and not follow(job, name, display):
                failed += 1
            if as_json:
                display.result(json.dumps(job.to_dict()))
    if failed:
        raise typer.Exit(1)


def _sources(inputs: Sequence[str]) -> list[Path | Url]:
    """UsageError for what is not there."""
    sources: list[Path | Url] = []
    for given in inputs:
        path = Path(given)
        if given.startswith(URL_BEGINS):
            sources.append(Url(given))
        elif path.is_dir():
            sources += images_in(path)
        elif path.exists():
            sources.append(path)
        else:
            raise UsageError(f"{given}: no such file or folder")
    return sources
