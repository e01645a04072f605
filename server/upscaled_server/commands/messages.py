"""How a command ends that cannot do what it was asked: with one line for a person, and no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from upscaled_server.errors import DomainError


def fail(message: str, *, status: int = 1) -> NoReturn:
    typer.echo(f"upscaled: {message}", err=True)
    raise typer.Exit(status)


@contextmanager
def needing_the_extra(purpose: str) -> Iterator[None]:
    """Around imports. Says what to install where the server's packages are missing: the client alone brings
    none of them."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("upscaled"):
            raise
        fail(f"{purpose} needs {error.name}: pip install 'upscaled[server]'")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around the server's own code, once its packages are known to be there."""
    from upscaled_server.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        fail(str(error), status=2)
    except DomainError as error:
        fail(error.message)
