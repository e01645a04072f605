"""The options that say which server a command administers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from upscaled._channel import SERVER_VARIABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The server, by one of two ways: over the network with an admin key, or its data folder."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="Server to administer over the network; default: UPSCALED_SERVER, else the data folder.",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", help="Admin key for --server; default: UPSCALED_API_KEY."),
    ] = None
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; the system's roots verify the server.")] = False
    ca: Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="Encrypt; the PEM file's roots verify the server."),
    ] = None
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="Data folder of the server on this machine, running or not; default: UPSCALED_DATA_DIR.",
        ),
    ] = None

    @property
    def over_network(self) -> bool:
        return self.data_dir is None and bool(self.server or os.environ.get(SERVER_VARIABLE))


def administers(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter, a `Where`, is given as that class's options, behind its own."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    options = inspect.signature(Where).parameters
    annotations = get_type_hints(Where, include_extras=True)

    @wraps(command)
    def with_options(**given: Any) -> None:
        where = Where(**{field.name: given.pop(field.name) for field in fields(Where)})
        command(where, **given)

    every = [*own, *(each.replace(annotation=annotations[name]) for name, each in options.items())]
    # Typer reads both. (PEP 362 has the first, mypy does not know it.)
    with_options.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in every}
    return with_options
