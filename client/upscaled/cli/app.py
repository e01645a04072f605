"""The command's root: global options, the commands of the client, those of other packages, and how failures
end.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from upscaled._errors import UpscaledError
from upscaled._version import __version__
from upscaled.cli import extensions, jobs, models, upscale, usage, webhooks


class _Root(TyperGroup):
    """Turns what a command raises into a message and an exit code, for every command alike."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UpscaledError as error:
            typer.echo(f"upscaled: {error}", err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            typer.echo(f"upscaled: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("upscaled: interrupted", err=True)
            raise typer.Exit(130) from error


def build_app() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        cls=_Root,
        help="Enlarge images with Real-ESRGAN networks, on a running server or one of its own.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    models_app = typer.Typer(help="The networks a server can run.", no_args_is_help=True)
    app.callback()(_root)
    app.command("upscale")(upscale.upscale)
    models_app.command("list")(models.list_models)
    app.add_typer(models_app, name="models")
    app.add_typer(jobs.build(), name="jobs")
    app.command("usage")(usage.usage)
    app.add_typer(webhooks.build(), name="webhooks")
    extensions.register_all(app, models_app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"upscaled {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[  # noqa: ARG001 - its callback has the say
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return
