"""`upscaled upscale`: files and folders, one image after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from upscaled import InvalidOptionError, Model, Options
from upscaled import _enums as enums
from upscaled.cli import compare
from upscaled.cli.batch import Batch, Wishes
from upscaled.cli.connect import ApiKeyOption, CaOption, ServerOption, TlsOption, connect
from upscaled.cli.display import open_display
from upscaled.cli.extras import install_hint, missing
from upscaled.cli.preview import SUFFIXES as PREVIEW_SUFFIXES
from upscaled.cli.targets import SUFFIX_OF_FORMAT, UsageError, find_targets, format_of, size_tag


def _named(table: enums.NameTable) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return table.name(table.number("", value))
        except InvalidOptionError:
            raise typer.BadParameter(f"one of {', '.join(table.names)} is expected; got {value!r}") from None

    return check


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
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Network, see `upscaled models list`. Default: the server's."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", "-s", help="Factor per side. Default: the network's own.")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", help="Width of the result in pixels.")] = None,
    height: Annotated[int | None, typer.Option("--height", help="Height of the result in pixels.")] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            callback=_named(enums.FIT),
            help="With width and height of another ratio: contain (default), cover or stretch.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            callback=_named(enums.FORMAT),
            help="png, jpeg, webp, tiff or avif. Default: by the suffix of OUT, else png.",
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option("--quality", "-q", help="Of lossy formats, 1 to 100. Default: 90.")
    ] = None,
    keep_colors: Annotated[
        bool,
        typer.Option(
            "--keep-colors/--network-colors",
            help="Whether mean colours, which networks shift, are corrected to those of the image.",
        ),
    ] = False,
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
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
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
    if scale is not None and (width is not None or height is not None):
        raise typer.BadParameter("--scale and --width/--height exclude each other")
    try:
        format_ = format_of(output, format_)
        _check_inputs(inputs)
        _check_preview(preview)
        _check_compare(compare_with, format_)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    options: Options = {"model": model, "scale": scale, "width": width, "height": height, "quality": quality}
    options["keep_colors"] = keep_colors or None
    options["fit"] = fit  # type: ignore[typeddict-item]  # checked by the option's callback
    options["format"] = format_  # type: ignore[typeddict-item]
    with open_display() as display:
        with connect(server, api_key, tls=tls, ca=ca, say=display.say) as client:
            models = client.models.list()
            tag = size_tag(scale, width, height, _own_scale(model, models))
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
