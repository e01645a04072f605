"""Wires what is known of callers: who may call, and the socket to administer that.

A server has it beside the images; `upscaled keys` has it alone when no server runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from upscaled_server.access import jwks
from upscaled_server.access.access import Access
from upscaled_server.access.directory import Directory
from upscaled_server.access.mounted import read_mounted
from upscaled_server.access.settings import AccessSettings
from upscaled_server.access.tokens import Tokens, TokenSettings
from upscaled_server.api.admin import AdminServicer
from upscaled_server.api.admin_socket import open_admin_socket
from upscaled_server.api.health import Health
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import DomainError, FailedPrecondition
from upscaled_server.pool.pool import Pool
from upscaled_server.state.background import in_background
from upscaled_server.state.store import Store

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_FLUSH_SECONDS = 60.0
_STOP_SECONDS = 2.0


@asynccontextmanager
async def administration(
    folder: Path,
    store: Store,
    settings: AccessSettings,
    catalogue: Catalogue,
    pool: Pool | None,
    *,
    optional: bool,
    shared: bool = False,
    tokens: TokenSettings | None = None,
    health: Health | None = None,
) -> AsyncIterator[tuple[Access, AdminServicer]]:
    """What the store knows of callers, kept up to date while the context lasts, and the socket in the data
    folder to administer it.

    `optional`: keys are checked where they are presented, but nobody needs one. `shared`: other servers
    change callers and keys too. Raises `FailedPrecondition`
    for a database, a file of keys or an identity provider's keys that cannot be used, `ProcessingFailed` for
    damaged entries.
    """
    async with AsyncExitStack() as stack:
        directory = Directory(store)
        await directory.load()
        if shared:
            await stack.enter_async_context(in_background(directory.follow))
        stack.push_async_callback(_flush, directory)
        keeping = [_flush_now_and_then(directory)]
        verifier = None
        if tokens is not None and tokens.jwt_jwks:
            verifier = Tokens(tokens)
            await jwks.load(verifier, tokens.jwt_jwks)
            keeping.append(jwks.keep(verifier, tokens.jwt_jwks))
        access = Access(directory, settings, optional=optional, tokens=verifier)
        if settings.api_keys_file is not None:
            directory.mount(await asyncio.to_thread(read_mounted, settings.api_keys_file))
            keeping.append(_remount_when_changed(directory, settings.api_keys_file))
        for work in keeping:
            stack.push_async_callback(_cancelled, asyncio.create_task(work))
        servicer = AdminServicer(directory, access.gates, catalogue, pool)
        # Until somebody is there who can delete files, as a server is once it has them.
        servicer.delete_all_of = partial(_refuse_what_is_stored, store)
        socket = await open_admin_socket(folder, servicer, health)
        if socket is not None:
            stack.push_async_callback(socket.stop, _STOP_SECONDS)
        yield access, servicer


async def _refuse_what_is_stored(store: Store, caller: str) -> None:
    """Raises `FailedPrecondition` if the caller has jobs or files: what they are would be left behind."""
    for prefix in (f"jobs/{caller}", f"stored/{caller}"):
        if await store.range(prefix, limit=1):
            raise FailedPrecondition(
                f"caller {caller} has jobs or files, which only a running server deletes; start the server, "
                "then delete the caller",
                caller=caller,
            )


async def _flush_now_and_then(directory: Directory) -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        await _flush(directory)


async def _flush(directory: Directory) -> None:
    try:
        await directory.flush_uses()
    except DomainError as error:
        log.warning("when keys were last used could not be written down: %s", error.message)


async def _remount_when_changed(directory: Directory, path: Path) -> None:
    """Kubernetes brings a changed Secret by putting another file in its place."""
    seen = await asyncio.to_thread(_fingerprint, path)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        found = await asyncio.to_thread(_fingerprint, path)
        if found == seen:
            continue
        seen = found
        try:
            directory.mount(await asyncio.to_thread(read_mounted, path))
            log.info("read UPSCALED_API_KEYS_FILE again: %s", path)
        except DomainError as error:
            log.error("the keys stay as they were: %s", error.message)


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
