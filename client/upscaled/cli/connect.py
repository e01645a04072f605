"""The client a command works with: a given server, or one that is started for the command and stopped after
it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from upscaled import NOT_GIVEN, TLS, Client
from upscaled._channel import SERVER_VARIABLE
from upscaled.cli import embedded, extensions

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="Server to call; default: UPSCALED_SERVER, else one is started for this command.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="Key to call with; default: UPSCALED_API_KEY."),
]
TlsOption = Annotated[bool, typer.Option("--tls", help="Encrypt; the system's roots verify the server.")]
CaOption = Annotated[
    str | None,
    typer.Option("--ca", metavar="FILE", help="Encrypt; the PEM file's roots verify the server."),
]


@contextlib.contextmanager
def connect(
    server: str | None, api_key: str | None, *, tls: bool, ca: str | None, say: Callable[[str], None]
) -> Iterator[Client]:
    """A client; `say` hears it when a server has to be started first, which takes seconds."""
    if threading.current_thread() is threading.main_thread():
        # A plain `kill` ends like Ctrl-C: partial files removed, an own server stopped.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        if not (server or os.environ.get(SERVER_VARIABLE)) and extensions.has_command("serve"):
            say("starting a server for this command (name a running one with --server)")
            server = stack.enter_context(embedded.running_server())
        yield stack.enter_context(
            Client(
                server,
                api_key=NOT_GIVEN if api_key is None else api_key,
                tls=TLS(ca=ca) if ca is not None else tls,
            )
        )
