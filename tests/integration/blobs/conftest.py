"""A server of files, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from blob_server import BlobServer, serving

from upscaled.v1 import blobs_pb2_grpc


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BlobServer]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def stub(server: BlobServer) -> AsyncIterator[blobs_pb2_grpc.BlobsStub]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield blobs_pb2_grpc.BlobsStub(channel)
