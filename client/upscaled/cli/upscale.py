"""`upscaled upscale`: files and folders, one image after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from upscaled import Model
from upscaled.cli import compare
from upscaled.cli.batch import Batch, Wishes
from upscaled.cli.connect import Connection
from upscaled.cli.display import open_display
from upscaled.cli.extras import install_hint, missing
from upscaled.cli.groups import grouped
from upscaled.cli.image_options import ImageOptions
from upscaled.cli.preview import SUFFIXES as PREVIEW_SUFFIXES
from upscaled.cli.targets import SUFFIX_OF_FORMAT, UsageError, find_targets, format_of, size_tag


@grouped
def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN", help="Images, or folders whose images are taken (not those further down)."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File for one image, folder for several. Default: photo_x4.png beside photo.jpg, "
            "photos_x4/ beside the folder photos.",
        ),
    ] = None,
    *,
    image: ImageOptions,
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview",
            metavar="FILE",
            help="Picture (png, jpg or webp) that is kept up to date while the result arrives.",
        ),
    ] = None,
    compare_with: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="BACKEND",
            help="Upscale with this backend as well (realesrgan is the reference), and write its result and "
            "a picture of the difference beside OUT.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Whether existing files are replaced.")
    ] = False,
    connection: Connection,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Bound for each image.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per image on standard output.")
    ] = False,
) -> None:
    """Enlarge images.

    Existing files are never replaced without --overwrite: a named image is then an error, an image of a
    folder is skipped, so that a second run goes on where the first one stopped.
    """
    try:
        image.check()
        format_ = format_of(output, image.format_)
        _check_inputs(inputs)
        _check_preview(preview)
        _check_compare(compare_with, format_)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    options = image.options(format_)
    with open_display() as display:
        with connection.client_of_any_server(display.say) as client:
            models = client.models.list()
            tag = size_tag(image.scale, image.width, image.height, _own_scale(image.model, models))
            try:
                targets = find_targets(inputs, output, tag, SUFFIX_OF_FORMAT[format_ or "png"])
                if compare_with is not None:
                    compare.refuse_clashes(targets, compare_with)
            except UsageError as error:
                raise typer.BadParameter(str(error)) from error
            wishes = Wishes(timeout, overwrite, as_json, preview, compare_with)
            batch = Batch(client, models, options, wishes, display)
            failed = [target for target in targets if not batch.do(target)]
        if failed and len(targets) > 1:
            display.say(f"{len(failed)} of {len(targets)} images failed")
    if failed:
        raise typer.Exit(1)


def _check_inputs(inputs: list[Path]) -> None:
    """Before a server is started for nothing."""
    for path in inputs:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")


def _check_preview(path: Path | None) -> None:
    """Likewise. Raises UsageError for another suffix, and where the package for it is missing."""
    if path is None:
        return
    if names := missing("images"):
        raise UsageError(f"--preview needs {', '.join(names)}: {install_hint('images')}")
    if path.suffix.lower() not in PREVIEW_SUFFIXES:
        raise UsageError(f"--preview: a file ending in {', '.join(PREVIEW_SUFFIXES)}; got {path.name!r}")


def _check_compare(backend: str | None, format_: str | None) -> None:
    """Likewise."""
    if backend is None:
        return
    if names := missing("images"):
        raise UsageError(f"--compare needs {', '.join(names)}: {install_hint('images')}")
    compare.check(backend, format_ or "png")


def _own_scale(model: str | None, models: list[Model]) -> int:
    for known in models:
        if (model is None and known.is_default) or model in (known.name, *known.aliases):
            return known.scale
    return 4  # the server will refuse the name; until then it only names a file
