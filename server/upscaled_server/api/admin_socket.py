"""The socket in the data folder through which the server's own user administers it without a key, and asks
for its health without a port or a certificate."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import grpc.aio

from upscaled.v1 import admin_pb2_grpc
from upscaled_server.api.access_interceptor import OperatorInterceptor
from upscaled_server.api.admin import AdminServicer
from upscaled_server.api.errors_interceptor import ErrorInterceptor
from upscaled_server.api.health import Health

log = logging.getLogger(__name__)

NAME = "admin.sock"
# What the kernel takes for the path of a Unix socket, without the closing zero.
MAX_PATH_BYTES = 107


async def open_admin_socket(
    folder: Path, servicer: AdminServicer, health: Health | None = None
) -> grpc.aio.Server | None:
    """A started server on `folder`'s socket, which only this user may open; None where the path is too long.

    A server of its own: grpc does not say on which of its ports a call came in.
    """
    path = folder / NAME
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        log.warning(
            "no %s: %s is longer than %d bytes; administer with an admin key, or set UPSCALED_DATA_DIR to a "
            "shorter path",
            NAME,
            path,
            MAX_PATH_BYTES,
        )
        return None
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), OperatorInterceptor()])
    admin_pb2_grpc.add_AdminServicer_to_server(servicer, server)
    if health is not None:
        health.add_to(server)
    # A socket that a killed server left behind; the lock on the folder says that nobody listens there.
    path.unlink(missing_ok=True)
    before = os.umask(0o177)  # closed to others from the first moment, not only after a chmod
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(before)
    await server.start()
    return server
