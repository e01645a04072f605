"""`upscaled keys …`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from upscaled_server.commands import show
from upscaled_server.commands.connect import Admin, run
from upscaled_server.commands.messages import fail
from upscaled_server.commands.where import Where, administers

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")

CallerArgument = Annotated[str, typer.Argument(metavar="CALLER", help="Name of the caller.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `upscaled keys list` shows it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


@administers
def create(
    where: Where,
    caller: CallerArgument,
    admin: Annotated[bool, typer.Option("--admin", help="The key may administer the server.")] = False,
    description: Annotated[str, typer.Option(help="For people, at most 100 characters.")] = "",
    lifetime: Annotated[
        str | None, typer.Option(help="How long it works, such as 90d or 12h. Default: until it is revoked.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a caller, which is made too if it is new. The key is printed, this once.

    From the first key on, every call to the server needs one.
    """
    from upscaled.v1 import admin_pb2

    request = admin_pb2.CreateKeyRequest(caller=caller, description=description, admin=admin)
    if lifetime is not None:
        request.lifetime.FromSeconds(_seconds("--lifetime", lifetime))

    async def work(remote: Admin) -> Any:
        await remote.make_caller(admin_pb2.Caller(name=caller))
        return await remote.call("CreateKey", request)

    _print_new(run(where, work), as_json=as_json)


@administers
def list_keys(
    where: Where,
    caller: Annotated[str, typer.Argument(metavar="[CALLER]", help="Only keys of this caller.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List keys, without their secrets."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> list[Any]:
        return await remote.list_all("ListKeys", admin_pb2.ListKeysRequest(caller=caller), "keys")

    show.keys(run(where, work), as_json=as_json)


@administers
def rotate(
    where: Where,
    key_id: KeyArgument,
    overlap: Annotated[
        str | None, typer.Option(help="How long the old key works on, such as 1h or 0s. Default: 24h.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key with the rights of an old one, which works on for a while. The new key is printed."""
    from upscaled.v1 import admin_pb2

    request = admin_pb2.RotateKeyRequest(key_id=key_id)
    if overlap is not None:
        request.overlap.FromSeconds(_seconds("--overlap", overlap))

    async def work(remote: Admin) -> Any:
        return await remote.call("RotateKey", request)

    _print_new(run(where, work), as_json=as_json)


@administers
def revoke(where: Where, key_id: KeyArgument) -> None:
    """End a key at once, and the calls that run with it."""
    from upscaled.v1 import admin_pb2

    async def work(remote: Admin) -> Any:
        return await remote.call("RevokeKey", admin_pb2.RevokeKeyRequest(key_id=key_id))

    key = run(where, work)
    typer.echo(f"{key.id} of {key.caller} works no more", err=True)


def generate() -> None:
    """Print a new key for UPSCALED_API_KEYS_FILE. No server hears of it."""
    from upscaled_server.access.keys import generate as new_key

    typer.echo(new_key())


def _print_new(answer: Any, *, as_json: bool) -> None:
    if as_json:
        show.line(show.key_values(answer.key) | {"key": answer.secret})
        return
    # Alone on stdout, so that a script can take it.
    typer.echo(answer.secret)
    typer.echo(
        f"This is key {answer.key.id} of caller {answer.key.caller}. It is shown only now; the server keeps "
        "its hash. Give it to clients as UPSCALED_API_KEY.",
        err=True,
    )


def _seconds(option: str, text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        fail(f"{option}: a number and s, m, h or d are expected, such as 90d; got {text!r}", status=2)
    return int(match[1]) * _UNITS[match[2]]
