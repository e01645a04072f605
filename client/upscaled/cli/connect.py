"""The client a command works with: a given server, or one that is started for the command and stopped after
it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from upscaled import NOT_GIVEN, TLS, Client
from upscaled._channel import SERVER_VARIABLE
from upscaled.cli import embedded, extensions


@dataclass(frozen=True, slots=True)
class Connection:
    """Which server is called, and how."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="Server to call; default: UPSCALED_SERVER, else one is started for this command where that "
            "makes sense.",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", help="Key to call with; default: UPSCALED_API_KEY."),
    ] = None
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; the system's roots verify the server.")] = False
    ca: Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="Encrypt; the PEM file's roots verify the server."),
    ] = None

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client of a server that runs. What it keeps, it keeps for later commands too."""
        _end_like_ctrl_c()
        with Client(
            self.server,
            api_key=NOT_GIVEN if self.api_key is None else self.api_key,
            tls=TLS(ca=self.ca) if self.ca is not None else self.tls,
        ) as client:
            yield client

    @contextlib.contextmanager
    def client_of_any_server(self, say: Callable[[str], None]) -> Iterator[Client]:
        """Where no server is named, one is started for the command and stopped after it. `say` hears of it,
        because it takes seconds.
        """
        _end_like_ctrl_c()
        with contextlib.ExitStack() as stack:
            connection = self
            if not (self.server or os.environ.get(SERVER_VARIABLE)) and extensions.has_command("serve"):
                say("starting a server for this command (name a running one with --server)")
                connection = replace(self, server=stack.enter_context(embedded.running_server()))
            yield stack.enter_context(connection.client())


def _end_like_ctrl_c() -> None:
    """A plain `kill` ends like Ctrl-C: partial files removed, an own server stopped."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
