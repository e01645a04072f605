"""What the commands on jobs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import typer

from upscaled import Client, Job, UpscaledError
from upscaled.cli.batch import HOPELESS

JobIds: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="JOB", help="Ids of jobs, as `upscaled jobs submit` prints them.")
]
LabelOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be given several times.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="One JSON object per job on standard output, in the contract's form.")
]


def labels_of(given: Sequence[str] | None) -> dict[str, str]:
    """BadParameter for what is not KEY=VALUE."""
    labels = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"--label: KEY=VALUE is expected; got {text!r}")
        labels[key] = value
    return labels


def say(text: str) -> None:
    """A remark, on standard error."""
    typer.echo(text, err=True)


def for_each(
    client: Client, ids: Sequence[str], do: Callable[[Job], bool], *, say: Callable[[str], None] = say
) -> None:
    """Does something with each job. What fails for one is said, and the others are done; the command then
    ends with 1, as it does where `do` answers False.
    """
    failed = 0
    for job_id in ids:
        try:
            failed += not do(client.jobs.get(job_id))
        except HOPELESS:
            raise
        except (UpscaledError, OSError) as error:
            say(f"{job_id}: {error}")
            failed += 1
    if failed:
        raise typer.Exit(1)
