"""The server's share of the `upscaled` command: `serve`, `calibrate`, `health`, `models pull`, `keys`,
`callers`, `logs`, `backup` and `restore`.

Heavy imports are inside the commands: the module is loaded at every start of `upscaled`, `--help` included.

The command finds `register` through the entry-point group `upscaled.commands`, so the client package
never imports this one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from upscaled_server.commands import backup, calibrate, callers, health, keys, log_levels
from upscaled_server.commands.messages import fail, needing_the_extra, plain_errors


def register(app: typer.Typer, models: typer.Typer) -> None:
    """Add the commands to `upscaled` and to `upscaled models`."""
    app.command("serve")(serve)
    app.command("calibrate")(calibrate.calibrate)
    app.command("health")(health.health)
    models.command("pull")(pull)
    keys_app = typer.Typer(help="Keys of those who may call a server.", no_args_is_help=True)
    keys_app.command("create")(keys.create)
    keys_app.command("list")(keys.list_keys)
    keys_app.command("rotate")(keys.rotate)
    keys_app.command("revoke")(keys.revoke)
    keys_app.command("generate")(keys.generate)
    app.add_typer(keys_app, name="keys")
    callers_app = typer.Typer(help="Who may call a server, and how much.", no_args_is_help=True)
    callers_app.command("set")(callers.set_limits)
    callers_app.command("list")(callers.list_callers)
    callers_app.command("delete")(callers.delete)
    app.add_typer(callers_app, name="callers")
    logs_app = typer.Typer(help="What a running server logs.", no_args_is_help=True)
    logs_app.command("level")(log_levels.set_level)
    app.add_typer(logs_app, name="logs")
    app.command("backup")(backup.backup)
    app.command("restore")(backup.restore)


def serve(
    listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT (port 0: any free one) or unix:PATH. "
            "Default: UPSCALED_LISTEN, else 127.0.0.1:50051."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check the settings and the files that they name; start nothing."),
    ] = False,
) -> None:
    """Run a server until SIGTERM or Ctrl-C. Settings are read from UPSCALED_* variables and
    UPSCALED_CONFIG."""
    with needing_the_extra("a server"):
        from upscaled_server import app
        from upscaled_server.settings import Settings
        from upscaled_server.telemetry.logs import LogSettings, configure

    with plain_errors():
        settings = Settings(app.SETTINGS, os.environ | ({"UPSCALED_LISTEN": listen} if listen else {}))
        if check:
            app.check(settings)
            print("the settings can be used")
            return
        configure(settings[LogSettings])
        asyncio.run(app.serve(settings, announce=_announce))


def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models by name or alias.", metavar="MODEL…")
    ] = None,
    all_models: Annotated[bool, typer.Option("--all", help="Every model of the catalogue.")] = False,
    to: Annotated[
        Path | None, typer.Option(help="Folder to put the files into. Default: the server's cache.")
    ] = None,
) -> None:
    """Fetch official weights ahead, each checked against its published SHA-256: for clusters without a
    way out."""
    with needing_the_extra("a server"):
        from upscaled_server import app
        from upscaled_server.engine.catalogue import Catalogue, ModelSpec
        from upscaled_server.engine.weights.settings import WeightSettings
        from upscaled_server.engine.weights.store import WeightStore
        from upscaled_server.settings import Settings

    if bool(names) == all_models:
        fail("name the models to fetch, or give --all", status=2)
    with plain_errors():
        settings = Settings(app.SETTINGS)
        catalogue = Catalogue()
        store = WeightStore(settings[WeightSettings].store_options())
        for spec in list(catalogue) if all_models else [catalogue.resolve(name) for name in names or []]:
            if not isinstance(spec, ModelSpec):
                continue  # lies in the model folder as it is
            path = store.pull(spec, _progress(spec.name), to=to)
            print(f"\r{spec.name}: {path}\033[K" if sys.stdout.isatty() else f"{spec.name}: {path}")


def _announce(address: str) -> None:
    """One line on stdout, for people and for whoever started the server."""
    print(f"upscaled listening on {address}", flush=True)


def _progress(name: str) -> Callable[[int, int], None]:
    """Shows how far a download is, on a terminal; elsewhere only the result is printed."""
    if not sys.stdout.isatty():
        return lambda _done, _total: None
    return lambda done, total: print(
        f"\r{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", flush=True
    )
