"""How a command reaches `Admin`: with an admin key over the network, or on the server's machine through the
socket in its data folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from upscaled._channel import open_channel, resolve_api_key, resolve_target
from upscaled._statuses import from_rpc_error
from upscaled._types import NOT_GIVEN, TLS
from upscaled_server.commands.messages import fail, needing_the_extra, plain_errors
from upscaled_server.commands.where import Where
from upscaled_server.errors import DomainError, Unavailable

if TYPE_CHECKING:
    import grpc.aio

    from upscaled.v1 import admin_pb2, admin_pb2_grpc

_T = TypeVar("_T")

_CALL_SECONDS = 30.0
_PAGE = 1000
# How long another command may hold the folder, or a server take to open its socket.
_REACH_SECONDS = 10.0
_LOOK_SECONDS = 0.1


class Admin:
    """The stub, with the key and a deadline on every call."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str | None) -> None:
        from upscaled.v1 import admin_pb2_grpc

        self._stub: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()

    async def call(self, rpc: str, request: Any) -> Any:
        return await getattr(self._stub, rpc)(request, timeout=_CALL_SECONDS, metadata=self._metadata)

    async def list_all(self, rpc: str, request: Any, field: str) -> list[Any]:
        """What `field` of the answers holds, over all pages. The request is changed."""
        found: list[Any] = []
        request.page_size = _PAGE
        while True:
            page = await self.call(rpc, request)
            found += getattr(page, field)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def make_caller(self, caller: admin_pb2.Caller) -> admin_pb2.Caller | None:
        """None where there is one of this name."""
        import grpc

        from upscaled.v1 import admin_pb2

        try:
            made: admin_pb2.Caller = await self.call(
                "CreateCaller", admin_pb2.CreateCallerRequest(caller=caller)
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            return None
        return made


def run(where: Where, work: Callable[[Admin], Awaitable[_T]]) -> _T:
    """What `work` gives, called with the server. Failures end the command with a message."""

    async def alone() -> _T:
        async with _reached(where) as admin:
            return await work(admin)

    with _messages(where):
        return asyncio.run(alone())


@asynccontextmanager
async def _reached(where: Where) -> AsyncIterator[Admin]:
    if where.over_network:
        tls = TLS(ca=where.ca) if where.ca is not None else where.tls
        channel = open_channel(resolve_target(where.server), tls)
        key = resolve_api_key(NOT_GIVEN if where.api_key is None else where.api_key)
    else:
        channel, key = None, None
    async with AsyncExitStack() as stack:
        if channel is None:
            channel = await _local_channel(where.data_dir, stack)
        stack.push_async_callback(channel.close)
        yield Admin(channel, key)


async def _local_channel(data_dir: Path | None, stack: AsyncExitStack) -> grpc.aio.Channel:
    """To the server that has the folder. Where none runs, this process takes the folder meanwhile.

    Raises `FailedPrecondition`, `Unavailable`.
    """
    from upscaled_server.api.admin_socket import NAME
    from upscaled_server.state.folder import DataFolder, FolderInUse
    from upscaled_server.state.nats.settings import ClusterSettings

    with plain_errors():
        folder, settings = _local_settings(data_dir)
    target = f"unix:{folder / NAME}"
    give_up = time.monotonic() + _REACH_SECONDS
    while True:
        try:
            stack.enter_context(DataFolder(folder))
        except FolderInUse:
            if (channel := await _ready(target)) is not None:
                return channel
        else:
            await _administer(folder, settings, stack)
            shared = settings[ClusterSettings].cluster_url
            where = "the state of UPSCALED_CLUSTER_URL" if shared else "the folder"
            typer.echo(f"no server runs in {folder}; working in {where} itself", err=True)
            return open_channel(target, None)
        if time.monotonic() > give_up:
            raise Unavailable(
                f"{folder} is in use, but nothing answers at {target}; try again, or name the server with "
                "--server and an admin key"
            )
        await asyncio.sleep(_LOOK_SECONDS)


def _local_settings(data_dir: Path | None) -> tuple[Path, Any]:
    from upscaled_server import app
    from upscaled_server.settings import Settings
    from upscaled_server.state.folder import StateSettings

    settings = Settings(app.SETTINGS)
    folder = settings[StateSettings].data_dir if data_dir is None else data_dir
    return folder.absolute(), settings


async def _administer(folder: Path, settings: Any, stack: AsyncExitStack) -> None:
    from upscaled_server.access.settings import AccessSettings
    from upscaled_server.administration import administration
    from upscaled_server.engine.catalogue import Catalogue
    from upscaled_server.shared_state import open_state
    from upscaled_server.state.nats.settings import ClusterSettings

    state = await stack.enter_async_context(open_state(folder, settings[ClusterSettings]))
    await stack.enter_async_context(
        administration(folder, state.store, settings[AccessSettings], Catalogue(), None, optional=True)
    )


async def _ready(target: str) -> grpc.aio.Channel | None:
    channel = open_channel(target, None)
    try:
        await asyncio.wait_for(channel.channel_ready(), 1.0)
    except TimeoutError:
        await channel.close()
        return None
    return channel


@contextmanager
def _messages(where: Where) -> Iterator[None]:
    """Turn what goes wrong into one line for a person."""
    import grpc.aio

    try:
        with needing_the_extra("administering a data folder"):
            yield
    except grpc.aio.AioRpcError as error:
        target = resolve_target(where.server) if where.over_network else "the data folder's socket"
        raise from_rpc_error(error, target=target) from error
    except DomainError as error:
        fail(error.message)
