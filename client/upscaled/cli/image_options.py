"""What is to be made of the images: the options of every command that takes some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from upscaled import InvalidOptionError, Options
from upscaled import _enums as enums
from upscaled.cli.targets import UsageError


def named(table: enums.NameTable) -> Callable[[str | None], str | None]:
    """A callback that takes the names of an enum, in any case."""

    def check(value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return table.name(table.number("", value))
        except InvalidOptionError:
            raise typer.BadParameter(f"one of {', '.join(table.names)} is expected; got {value!r}") from None

    return check


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """As the command line has them; `options()` is what the client takes."""

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Network, see `upscaled models list`. Default: the server's."),
    ] = None
    scale: Annotated[
        float | None, typer.Option("--scale", "-s", help="Factor per side. Default: the network's own.")
    ] = None
    width: Annotated[int | None, typer.Option("--width", help="Width of the result in pixels.")] = None
    height: Annotated[int | None, typer.Option("--height", help="Height of the result in pixels.")] = None
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            callback=named(enums.FIT),
            help="With width and height of another ratio: contain (default), cover or stretch.",
        ),
    ] = None
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            callback=named(enums.FORMAT),
            help="png, jpeg, webp, tiff or avif. Default: by the suffix of a named output, else png.",
        ),
    ] = None
    quality: Annotated[
        int | None, typer.Option("--quality", "-q", help="Of lossy formats, 1 to 100. Default: 90.")
    ] = None
    keep_colors: Annotated[
        bool,
        typer.Option(
            "--keep-colors/--network-colors",
            help="Whether mean colours, which networks shift, are corrected to those of the image.",
        ),
    ] = False

    def check(self) -> None:
        """UsageError for what excludes each other."""
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise UsageError("--scale and --width/--height exclude each other")

    def options(self, format_: str | None) -> Options:
        """`format_` is the one to use: the named one, or what an output's suffix says."""
        options: Options = {
            "model": self.model,
            "scale": self.scale,
            "width": self.width,
            "height": self.height,
            "quality": self.quality,
            "keep_colors": self.keep_colors or None,
        }
        options["fit"] = self.fit  # type: ignore[typeddict-item]  # checked by the option's callback
        options["format"] = format_  # type: ignore[typeddict-item]  # likewise
        return options
