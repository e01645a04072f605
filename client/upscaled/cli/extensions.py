"""Commands that other packages add, so that the client never imports them.

A package names a function in the entry-point group `upscaled.commands`:

    [project.entry-points."upscaled.commands"]
    serve = "upscaled_server.cli:register"

    def register(app: typer.Typer, models_app: typer.Typer) -> None:
        app.command("serve")(serve)
        models_app.command("pull")(pull)

The entry's name is its main command. The module is imported at every start of the command, help included, so
it must import nothing heavy at its top. If it cannot be imported, a command of the entry's name says what to
install. A command ends by returning (0), by `typer.Exit(code)`, or by raising OSError or UpscaledError, which
are shown as one message with exit code 1.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Final

import typer

from upscaled.cli.extras import install_hint, missing

GROUP: Final = "upscaled.commands"
# The extra that an entry of this distribution belongs to.
_EXTRA_OF: Final = {"serve": "server"}


def has_command(name: str) -> bool:
    """Whether some package offers a command of this name and its requirements are installed."""
    found = any(entry.name == name for entry in metadata.entry_points(group=GROUP))
    return found and not missing(_EXTRA_OF.get(name, ""))


def register_all(app: typer.Typer, models_app: typer.Typer) -> None:
    """Lets every entry add its commands."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()(app, models_app)
        except Exception as error:  # another package's fault must not take the other commands away
            app.command(entry.name, help="(cannot be loaded)")(_explainer(entry.name, error))


def _explainer(name: str, error: Exception) -> Callable[[], None]:
    def explain() -> None:
        extra = _EXTRA_OF.get(name, "")
        packages = missing(extra)
        if packages:
            problem = f"needs {', '.join(packages)}: {install_hint(extra)}"
        else:
            problem = f"cannot be loaded: {type(error).__name__}: {error}"
        typer.echo(f"upscaled {name}: {problem}", err=True)
        raise typer.Exit(1)

    return explain
