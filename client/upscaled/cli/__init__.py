"""The command `upscaled`. Needs the extra `cli`; says so when it is missing."""

from __future__ import annotations

import sys

from upscaled.cli.extras import install_hint, missing


def main() -> None:
    """Entry point. Ends the process: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        import rich  # noqa: F401 - are they there?
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        names = ", ".join(missing("cli")) or error.name
        sys.stderr.write(f"upscaled: the command needs {names}: {install_hint('cli')}\n")
        sys.exit(1)
    from upscaled.cli.app import build_app

    build_app()(prog_name="upscaled")
