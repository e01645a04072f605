"""`upscaled callers …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscaled_server.commands import show
from upscaled_server.commands.connect import Admin, run
from upscaled_server.commands.keys import CallerArgument, JsonOption
from upscaled_server.commands.messages import fail
from upscaled_server.commands.where import Where, administers

_PRIORITIES = {"interactive": 1, "batch": 2}


@administers
def set_limits(
    where: Where,
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
) -> None:
    """Set limits of a caller, which is made if it is new. What is not named stays as it is."""
    from upscaled.v1 import admin_pb2

    if max_priority is not None and max_priority not in _PRIORITIES:
        fail(f"--max-priority: interactive or batch is expected; got {max_priority!r}", status=2)
    values: dict[str, Any] = {
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
    message = admin_pb2.Caller(name=caller, **given)

    async def work(remote: Admin) -> Any:
        if (made := await remote.make_caller(message)) is not None:
            return made
        if not given:
            return await remote.call("GetCaller", admin_pb2.GetCallerRequest(caller=caller))
        request = admin_pb2.UpdateCallerRequest(caller=message)
        request.update_mask.paths.extend(given)
        return await remote.call("UpdateCaller", request)

    show.callers([run(where, work)], as_json=as_json)


@administers
def list_callers(where: Where, as_json: JsonOption = False) -> None:
    """List callers and their limits."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> list[Any]:
        return await remote.list_all("ListCallers", admin_pb2.ListCallersRequest(), "callers")

    show.callers(run(where, work), as_json=as_json)


@administers
def delete(where: Where, caller: CallerArgument) -> None:
    """Delete a caller with its keys; the calls that run with them end."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> Any:
        return await remote.call("DeleteCaller", admin_pb2.DeleteCallerRequest(caller=caller))

    run(where, work)
    typer.echo(f"caller {caller} and its keys are gone", err=True)
