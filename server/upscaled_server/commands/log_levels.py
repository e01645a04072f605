"""`upscaled logs …`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from upscaled_server.commands.connect import Admin, run
from upscaled_server.commands.where import Where, administers


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    INHERIT = "inherit"


@administers
def set_level(
    where: Where,
    level: Annotated[
        Level, typer.Argument(help="Lowest level that is logged; inherit: that of the loggers above.")
    ],
    logger: Annotated[
        str, typer.Option(help="A part of the server, such as upscaled_server.pool. Default: everything.")
    ] = "",
) -> None:
    """Set from which level on a running server logs, until it ends."""
    from upscaled.v1 import admin_pb2

    wanted = "UNSPECIFIED" if level is Level.INHERIT else level.name
    request = admin_pb2.SetLogLevelRequest(
        logger=logger, level=admin_pb2.LogLevel.Value(f"LOG_LEVEL_{wanted}")
    )

    async def work(remote: Admin) -> Any:
        return await remote.call("SetLogLevel", request)

    answer = run(where, work)
    typer.echo(f"{logger or 'everything'}: {_name(answer.level)}, was {_name(answer.previous_level)}")


def _name(level: int) -> str:
    from upscaled.v1 import admin_pb2

    return admin_pb2.LogLevel.Name(level).removeprefix("LOG_LEVEL_").lower()  # type: ignore[arg-type]
