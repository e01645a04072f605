"""Uploads and downloads that are cut at random points and resumed: `python -m tests.chaos.transfers`.

The bytes must be equal, and few of them moved twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.api import httpbody_pb2

from tests.integration.blobs.blob_server import serving
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc
from upscaled_server.pipeline.limits import LimitSettings

MESSAGE_BYTES = 1 << 20

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Transfer:
    cuts: int
    size_bytes: int
    moved_bytes: int
    equal: bool


async def upload(
    stub: blobs_pb2_grpc.BlobsStub, data: bytes, cuts: Sequence[int], metadata: Metadata = ()
) -> tuple[str, Transfer]:
    """The input's id. After each cut the server is asked where to go on."""
    sha256 = hashlib.sha256(data).digest()
    made = await stub.CreateInput(
        blobs_pb2.CreateInputRequest(size_bytes=len(data), sha256=sha256), metadata=metadata
    )
    committed = moved = 0
    for cut in cuts:
        call = stub.WriteInput(metadata=metadata)
        sent = committed
        async for message in _messages(made.id, data[:cut], committed):
            await call.write(message)
            sent += len(message.content.data)
        call.cancel()
        moved += sent - committed
        question = blobs_pb2.QueryWriteStatusRequest(input_id=made.id)
        status = await stub.QueryWriteStatus(question, metadata=metadata)
        if not committed <= status.committed_size_bytes <= cut:
            raise AssertionError(f"{status.committed_size_bytes} bytes are committed, {cut} were sent")
        committed = status.committed_size_bytes
    done = await stub.WriteInput(_messages(made.id, data, committed), metadata=metadata)
    moved += len(data) - committed
    return made.id, Transfer(len(cuts), len(data), moved, done.complete and done.sha256 == sha256)


async def download(
    stub: blobs_pb2_grpc.BlobsStub,
    output_id: str,
    data: bytes,
    cuts: Sequence[int],
    metadata: Metadata = (),
) -> Transfer:
    """After each cut the client goes on behind the bytes that it has."""
    got = bytearray()
    for cut in cuts:
        request = blobs_pb2.DownloadOutputRequest(output_id=output_id, offset=len(got))
        call = stub.DownloadOutput(request, metadata=metadata)
        while len(got) < cut:
            got += (await call.read()).data
        call.cancel()
    request = blobs_pb2.DownloadOutputRequest(output_id=output_id, offset=len(got))
    async for body in stub.DownloadOutput(request, metadata=metadata):
        got += body.data
    return Transfer(len(cuts), len(data), len(got), bytes(got) == data)


def random_cuts(seed: int, count: int, size: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(1, size), count))


async def _messages(input_id: str, data: bytes, offset: int) -> AsyncIterator[blobs_pb2.WriteInputRequest]:
    for begin in range(offset, len(data), MESSAGE_BYTES):
        content = httpbody_pb2.HttpBody(data=data[begin : begin + MESSAGE_BYTES])
        yield blobs_pb2.WriteInputRequest(input_id=input_id, offset=begin, content=content)


async def _run(folder: Path, size: int, count: int, seed: int) -> dict[str, Transfer]:
    data = random.Random(seed).randbytes(size)
    limits = LimitSettings(max_input_bytes=size)
    async with (
        serving(folder, with_keys=False, limits=limits) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = blobs_pb2_grpc.BlobsStub(channel)
        _, up = await upload(stub, data, random_cuts(seed, count, size))
        output = await server.output(data, caller="-")
        down = await download(stub, output.id, data, random_cuts(seed + 1, count, size))
    return {"upload": up, "download": down}


def main() -> int:
    parser = arguments("transfers", __doc__.split("\n")[0])
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    size = 8_000_000 if given.short else 200_000_000
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(_run(Path(folder), size, given.cuts, given.seed))
    record = Record(
        "transfers",
        "Transfers cut",
        f"an upload and a download of {size / 1e6:g} MB, each cut at {given.cuts} random places and resumed",
        given.short,
        tried=sum(each.cuts for each in done.values()),
        held=sum(each.cuts for each in done.values() if each.equal),
        figures={f"{name}_bytes_moved_to_size": each.moved_bytes / size for name, each in done.items()},
        not_held=[f"the {name} has other bytes" for name, each in done.items() if not each.equal],
        seconds=time.monotonic() - began,
    )
    return end(record, given.out)


if __name__ == "__main__":
    sys.exit(main())
