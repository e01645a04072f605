"""`upscaled callers …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscaled_server.commands import show
from upscaled_server.commands.connect import (
    Admin,
    ApiKeyOption,
    CaOption,
    DataDirOption,
    ServerOption,
    TlsOption,
    Where,
    fail,
    run,
)
from upscaled_server.commands.keys import CallerArgument, JsonOption

_PRIORITIES = {"interactive": 1, "batch": 2}


def set_limits(
    caller: CallerArgument,
    weight: Annotated[float | None, typer.Option(help="Share of the devices, 0.01 to 1000.")] = None,
    max_priority: Annotated[str | None, typer.Option(help="interactive or batch.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Calls and jobs at once; 0: default.")] = None,
    max_queued_jobs: Annotated[int | None, typer.Option(help="Jobs waiting at once; 0: default.")] = None,
    max_requests_per_second: Annotated[
        float | None, typer.Option(help="On average over ten seconds; 0: no limit.")
    ] = None,
    max_input_pixels: Annotated[
        int | None, typer.Option(help="Largest image, width times height; 0: the server's limit.")
    ] = None,
    allowed_model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; may be repeated. `all`: every model.")
    ] = None,
    max_stored_bytes: Annotated[int | None, typer.Option(help="Bytes it may store; 0: default.")] = None,
    monthly_credits: Annotated[float | None, typer.Option(help="Credits granted per month.")] = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Set limits of a caller, which is made if it is new. What is not named stays as it is."""
    from upscaled.v1 import admin_pb2

    if max_priority is not None and max_priority not in _PRIORITIES:
        fail(f"--max-priority: interactive or batch is expected; got {max_priority!r}", status=2)
    values = {
        "weight": weight,
        "max_priority": None if max_priority is None else _PRIORITIES[max_priority],
        "max_concurrent": max_concurrent,
        "max_queued_jobs": max_queued_jobs,
        "max_requests_per_second": max_requests_per_second,
        "max_input_pixels": max_input_pixels,
        "allowed_models": [] if allowed_model == ["all"] else allowed_model,
        "max_stored_bytes": max_stored_bytes,
        "monthly_credits": monthly_credits,
    }
    given = {name: value for name, value in values.items() if value is not None}
    message = admin_pb2.Caller(name=caller, **given)  # type: ignore[arg-type]

    async def work(remote: Admin) -> Any:
        import grpc

        try:
            return await remote.call("CreateCaller", admin_pb2.CreateCallerRequest(caller=message))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        if not given:
            return await remote.call("GetCaller", admin_pb2.GetCallerRequest(caller=caller))
        request = admin_pb2.UpdateCallerRequest(caller=message)
        request.update_mask.paths.extend(given)
        return await remote.call("UpdateCaller", request)

    show.callers([run(Where(server, api_key, tls, ca, data_dir), work)], as_json=as_json)


def list_callers(
    as_json: JsonOption = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List callers and their limits."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> list[Any]:
        found, token = [], ""
        while True:
            request = admin_pb2.ListCallersRequest(page_size=1000, page_token=token)
            page = await remote.call("ListCallers", request)
            found += page.callers
            if not (token := page.next_page_token):
                return found

    show.callers(run(Where(server, api_key, tls, ca, data_dir), work), as_json=as_json)


def delete(
    caller: CallerArgument,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a caller with its keys; the calls that run with them end."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> Any:
        return await remote.call("DeleteCaller", admin_pb2.DeleteCallerRequest(caller=caller))

    run(Where(server, api_key, tls, ca, data_dir), work)
    typer.echo(f"caller {caller} and its keys are gone", err=True)
