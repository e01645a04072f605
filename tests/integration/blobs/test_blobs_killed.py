"""A server that is killed in the middle of things, and started again on the same folder."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from blob_server import serving
from blob_tools import Stub, writes

from upscaled.v1 import blobs_pb2
from upscaled_server.errors import NotFound

SCRIPT = Path(__file__).with_name("blob_server.py")
DATA = random.Random(1).randbytes(20_000_000)
READY_SECONDS = 60


@asynccontextmanager
async def killed_at_the_end(folder: Path, doing: str) -> AsyncIterator[str]:
    """A server in another process, and what it said first; it ends by SIGKILL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), doing, str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def test_an_upload_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    committed, input_id = 0, ""
    for _ in range(3):
        async with (
            killed_at_the_end(tmp_path, "serve") as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = Stub(channel)
            if not input_id:
                input_id = (await stub.CreateInput(blobs_pb2.CreateInputRequest())).id
            question = blobs_pb2.QueryWriteStatusRequest(input_id=input_id)
            status = await stub.QueryWriteStatus(question)
            assert status.committed_size_bytes >= committed
            committed = status.committed_size_bytes
            call = stub.WriteInput()
            part = DATA[committed : committed + 6_000_000]
            async for message in writes(input_id, part, offset=committed, size=250_000, finish=False):
                await call.write(message)
            # What the server has told to be there must be there for good, although the stream goes on.
            committed = await _grown(stub, question, committed)
    async with (
        serving(tmp_path, with_keys=False) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = Stub(channel)
        status = await stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=input_id))
        assert status.committed_size_bytes >= committed
        done = await stub.WriteInput(
            writes(input_id, DATA[status.committed_size_bytes :], offset=status.committed_size_bytes)
        )
        assert done.sha256 == hashlib.sha256(DATA).digest()
        assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [input_id]


async def _grown(stub: Stub, question: blobs_pb2.QueryWriteStatusRequest, before: int) -> int:
    """The committed size once it is larger than `before`."""
    async with asyncio.timeout(READY_SECONDS):
        while (size := (await stub.QueryWriteStatus(question)).committed_size_bytes) <= before:  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.02)
    return int(size)


async def test_an_output_that_was_being_written_is_not_there_afterwards(tmp_path: Path) -> None:
    async with killed_at_the_end(tmp_path, "write") as output_id:
        (unfinished,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
        assert unfinished.parent.name == output_id
        assert unfinished.name.endswith("#1")
    async with serving(tmp_path, with_keys=False) as server:
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
        assert server.blobs.used_bytes == await server.files.stored_bytes("anna") == 0
        with pytest.raises(NotFound):
            await server.files.output("anna", output_id)
        # It is made again under its id, or deleted when its time is up; either leaves nothing over.
        await server.files.delete_output(output_id)
        for prefix in ("outputs", "stored", "expiry"):
            assert await server.store.range(prefix) == []
        await server.output(b"again")
