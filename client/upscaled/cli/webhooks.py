"""`upscaled webhooks …`: what a receiver of callbacks needs."""

from __future__ import annotations

import typer

from upscaled.cli.connect import Connection
from upscaled.cli.groups import grouped


def build() -> typer.Typer:
    app = typer.Typer(help="What a receiver of callbacks needs.", no_args_is_help=True)
    # A callback keeps typer from taking a lone command for the whole group.
    app.callback()(lambda: None)
    app.command("secrets")(secrets)
    return app


@grouped
def secrets(connection: Connection) -> None:
    """Print the secrets that callbacks to you are signed with, one a line, the newest first."""
    with connection.client() as client:
        for secret in client.webhook_secrets():
            typer.echo(secret)
