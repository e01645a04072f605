"""A server of files, or two over the same files, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from blob_server import BlobServer, serving
from blob_tools import Alternating
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer

from upscaled.v1 import blobs_pb2_grpc
from upscaled_server.storage.settings import StorageSettings


@pytest.fixture(params=["alone", "two over nats and s3"])
async def servers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[BlobServer]]:
    async with AsyncExitStack() as stack:
        if request.param == "alone":
            yield [await stack.enter_async_context(serving(tmp_path))]
            return
        nats_server: NatsServer = request.getfixturevalue("nats_server")
        open_store = nats_opener(nats_server)
        storage = StorageSettings(blobs_url=f"s3://{request.getfixturevalue('s3_bucket')}/files")
        running: list[BlobServer] = []
        for name in ("one", "other"):
            peer = running[0] if running else None
            server = serving(tmp_path / name, storage=storage, open_store=open_store, peer=peer)
            running.append(await stack.enter_async_context(server))
        yield running


@pytest.fixture
def server(servers: list[BlobServer]) -> BlobServer:
    return servers[0]


@pytest.fixture
async def stub(servers: list[BlobServer]) -> AsyncIterator[blobs_pb2_grpc.BlobsStub]:
    """Each call goes to another server than the one before."""
    async with AsyncExitStack() as stack:
        stubs = []
        for server in servers:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            stubs.append(blobs_pb2_grpc.BlobsStub(channel))
        yield Alternating(stubs)
