"""A server that is killed in the middle of things, and started again on the same folder, or followed by
another over the same files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest
from blob_server import BlobServer, serving
from blob_tools import Stub, writes
from tests.both_stores import nats_store_opener
from tests.nats_servers import settings_for

from upscaled.v1 import blobs_pb2
from upscaled_server.errors import NotFound
from upscaled_server.state.nats.settings import ClusterSettings

SCRIPT = Path(__file__).with_name("blob_server.py")
DATA = random.Random(1).randbytes(20_000_000)
READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers keep records and bytes: in their folder, or in what their environment names."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        return bool(self.environment)

    @asynccontextmanager
    async def killed_at_the_end(self, doing: str, name: str = "") -> AsyncIterator[str]:
        """A server in another process, and what it said first; it ends by SIGKILL."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            doing,
            str(self.folder / name),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(READY_SECONDS):
                yield (await process.stdout.readline()).decode().strip()
        finally:
            process.kill()
            await process.wait()

    @asynccontextmanager
    async def serving(self, name: str = "") -> AsyncIterator[BlobServer]:
        """A server in this process."""
        open_store = nats_store_opener(ClusterSettings()) if self.is_shared else None
        async with serving(self.folder / name, with_keys=False, open_store=open_store) as server:
            yield server


@pytest.fixture(params=["folder", "nats and s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":
        return Place(tmp_path)
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("s3_bucket")
    settings = settings_for([request.getfixturevalue("nats_server")])
    environment = {
        **s3.environment,
        "UPSCALED_BLOBS_URL": f"s3://{bucket}/files",
        "UPSCALED_CLUSTER_URL": settings.cluster_url,
        "UPSCALED_CLUSTER_PREFIX": settings.cluster_prefix,
        "UPSCALED_CLUSTER_REPLICAS": str(settings.cluster_replicas),
        "UPSCALED_CLUSTER_MAX_STATE_BYTES": str(settings.cluster_max_state_bytes),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(tmp_path, environment)


async def test_an_upload_goes_on_after_the_server_was_killed(place: Place) -> None:
    """At the same server, or at another one where there are several."""
    committed, input_id = 0, ""
    for number in range(3):
        async with (
            place.killed_at_the_end("serve", str(number) if place.is_shared else "") as address,
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
        place.serving() as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = Stub(channel)
        status = await stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=input_id))
        assert status.committed_size_bytes >= committed
        done = await stub.WriteInput(
            writes(input_id, DATA[status.committed_size_bytes :], offset=status.committed_size_bytes)
        )
        assert done.sha256 == hashlib.sha256(DATA).digest()
        assert [path async for path in server.blobs.list("partial")] == []
        (path,) = [path async for path in server.blobs.list("inputs")]
        assert input_id in path
        assert b"".join([piece async for piece in server.blobs.read(path)]) == DATA


async def _grown(stub: Stub, question: blobs_pb2.QueryWriteStatusRequest, before: int) -> int:
    """The committed size once it is larger than `before`."""
    async with asyncio.timeout(READY_SECONDS):
        while (size := (await stub.QueryWriteStatus(question)).committed_size_bytes) <= before:  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.02)
    return int(size)


async def test_an_output_that_was_being_written_is_not_there_afterwards(
    place: Place, request: pytest.FixtureRequest
) -> None:
    async with place.killed_at_the_end("write", "first" if place.is_shared else "") as output_id:
        if place.is_shared:
            (unfinished,) = request.getfixturevalue("s3").unfinished(request.getfixturevalue("s3_bucket"))
            assert f"/{output_id}/" in unfinished
        else:
            (staged,) = [path for path in (place.folder / "blobs").rglob("*") if path.is_file()]
            assert staged.parent.name == output_id
            assert staged.name.endswith("#1")
    async with place.serving() as server:
        assert [path async for path in server.blobs.list("outputs")] == []
        assert [path for path in place.folder.rglob("blobs/*") if path.is_file()] == []
        assert server.blobs.used_bytes == await server.files.stored_bytes("anna") == 0
        with pytest.raises(NotFound):
            await server.files.output("anna", output_id)
        # It is made again under its id, or deleted when its time is up; either leaves nothing over.
        await server.files.delete_output(output_id)
        for prefix in ("outputs", "stored"):
            assert await server.store.range(prefix) == []
        # Where others may still write, this stays until it is due.
        assert len(await server.store.range("expiry")) == place.is_shared
        await server.output(b"again")
