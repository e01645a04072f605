"""`upscaled health`: what probes ask, for places that have no other program to ask with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscaled._channel import open_channel, resolve_target
from upscaled._types import TLS, TLSLike
from upscaled_server.commands.messages import fail, needing_the_extra

if TYPE_CHECKING:
    from grpc_health.v1.health_pb2 import HealthCheckResponse


def health(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="Server to ask over the network; default: the one of the data folder.",
        ),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            help="Full name of a service, or `liveness`: whether the process answers. Default: the "
            "whole server.",
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds that the answer may take.")
    ] = 5.0,
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt; the system's roots verify the server.")
    ] = False,
    ca: Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="Encrypt; the PEM file's roots verify the server."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="Data folder of a server on this machine, asked through its socket: whatever port and "
            "encryption it has. Default: UPSCALED_DATA_DIR.",
        ),
    ] = None,
) -> None:
    """Ask a server for its health (grpc.health.v1) and print it. Exit code 0: SERVING; 1: anything else,
    or no answer."""
    with needing_the_extra("asking for health"):
        import grpc.aio
        from grpc_health.v1 import health_pb2
    if server is not None and data_dir is not None:
        fail("--server and --data-dir name two servers; give one of them", status=2)
    target = _socket(data_dir) if server is None else resolve_target(server)
    encryption: TLSLike = None if server is None else TLS(ca=ca) if ca is not None else tls
    try:
        answer = asyncio.run(_ask(target, encryption, service, timeout))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            fail(f"{target}: no service {service!r} there")
        fail(f"{target}: {error.code().name}: {error.details()}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(status)
    if status != "SERVING":
        raise typer.Exit(1)


def _socket(data_dir: Path | None) -> str:
    # Not the whole of the settings: reading them imports the whole server, several times a minute.
    from upscaled_server.api.admin_socket import NAME
    from upscaled_server.state.folder import StateSettings

    folder = StateSettings().data_dir if data_dir is None else data_dir
    return f"unix:{folder.absolute() / NAME}"


async def _ask(target: str, encryption: TLSLike, service: str, timeout: float) -> HealthCheckResponse:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with open_channel(target, encryption) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer: HealthCheckResponse = await health_pb2_grpc.HealthStub(channel).Check(
            request, timeout=timeout
        )
        return answer
