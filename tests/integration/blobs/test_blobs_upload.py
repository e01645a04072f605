"""Uploads over a real connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest
from blob_server import BlobServer
from blob_tools import Stub, info, quota, writes
from google.protobuf.duration_pb2 import Duration
from tests.chaos import transfers

from upscaled._aio.attempt import LOCAL_FAILURE
from upscaled.v1 import blobs_pb2

DATA = os.urandom(3_000_001)
SHA256 = hashlib.sha256(DATA).digest()
NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def _create(stub: Stub, server: BlobServer, caller: str = "anna", **fields: object) -> str:
    made = await stub.CreateInput(blobs_pb2.CreateInputRequest(**fields), metadata=server.key(caller))
    return str(made.id)


async def test_an_input_is_made_written_and_complete(stub: Stub, server: BlobServer) -> None:
    key = server.key("anna")
    made = await stub.CreateInput(blobs_pb2.CreateInputRequest(retention=Duration(seconds=60)), metadata=key)
    assert (made.expire_time.ToDatetime() - made.create_time.ToDatetime()).total_seconds() == 60
    status = await stub.WriteInput(writes(made.id, DATA), metadata=key)
    assert (status.committed_size_bytes, status.complete, status.sha256) == (len(DATA), True, SHA256)
    asked = await stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=made.id), metadata=key)
    assert asked == status


@pytest.mark.parametrize("seconds", [0, -1, 315_576_000_001, 2**63 - 1, -(2**63)])
async def test_how_long_to_keep_an_input_is_refused_out_of_range(
    stub: Stub, server: BlobServer, seconds: int
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _create(stub, server, retention=Duration(seconds=seconds))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_upload_that_is_cut_goes_on_where_it_was(stub: Stub, server: BlobServer) -> None:
    data = random.Random(6).randbytes(8_000_000)
    cuts = transfers.random_cuts(7, 10, len(data))
    input_id, done = await transfers.upload(stub, data, cuts, server.key("anna"))
    assert done.equal
    record = await server.files.input("anna", input_id)
    assert b"".join([piece async for piece in server.files.read_input(record)]) == data


async def test_bytes_that_a_client_left_behind_are_committed(stub: Stub, server: BlobServer) -> None:
    key = server.key("anna")
    input_id = await _create(stub, server)
    status = await stub.WriteInput(writes(input_id, DATA, finish=False), metadata=key)
    assert (status.committed_size_bytes, status.complete) == (len(DATA), False)
    call = stub.WriteInput(metadata=key)
    async for message in writes(input_id, DATA, offset=len(DATA), finish=False):
        await call.write(message)
    await _until(lambda: server.memory.held_bytes == len(DATA))
    call.cancel()
    await _until(lambda: server.memory.held_bytes == 0)
    question = blobs_pb2.QueryWriteStatusRequest(input_id=input_id)
    status = await stub.QueryWriteStatus(question, metadata=key)
    assert status.committed_size_bytes == 2 * len(DATA)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"offset": 1}, grpc.StatusCode.OUT_OF_RANGE),
        ({"offset": -1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"offset": 2**63 - 1}, grpc.StatusCode.OUT_OF_RANGE),
        ({"size": 1_100_000}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_written_is_refused(
    stub: Stub, server: BlobServer, fields: dict[str, int], code: grpc.StatusCode
) -> None:
    input_id = await _create(stub, server)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WriteInput(writes(input_id, DATA, **fields), metadata=server.key("anna"))
    assert refused.value.code() is code
    assert info(refused.value).metadata["actual"]


async def test_a_wrong_hash_is_data_loss(stub: Stub, server: BlobServer) -> None:
    input_id = await _create(stub, server, sha256=bytes(32))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WriteInput(writes(input_id, DATA), metadata=server.key("anna"))
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS


async def test_a_complete_input_takes_no_more(stub: Stub, server: BlobServer) -> None:
    input_id = await _create(stub, server)
    await stub.WriteInput(writes(input_id, DATA), metadata=server.key("anna"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WriteInput(writes(input_id, DATA), metadata=server.key("anna"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info(refused.value).reason == "INPUT_COMPLETE"


async def test_a_callers_quota_is_named(stub: Stub, server: BlobServer) -> None:
    input_id = await _create(stub, server, caller="small")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WriteInput(writes(input_id, DATA), metadata=server.key("small"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (violation,) = quota(refused.value).violations
    assert violation.subject == "caller:small"
    assert info(refused.value).metadata["limit"] == "2000000"


async def test_the_same_request_id_gives_the_same_input(stub: Stub, server: BlobServer) -> None:
    first = await _create(stub, server, request_id="r1", size_bytes=10)
    assert await _create(stub, server, request_id="r1", size_bytes=10) == first
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _create(stub, server, request_id="r1", size_bytes=11)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


HOSTILE = [
    "",
    "../../state.db",
    "..",
    "a\0b",
    "a\r\nFORGED-41",
    "Ünï",
    "x" * 1_000_000,
    NOBODY,
    f"../inputs/{NOBODY}",
]


@pytest.mark.parametrize("bad", HOSTILE, ids=lambda bad: repr(bad[:20]))
async def test_no_id_leads_anywhere(stub: Stub, server: BlobServer, bad: str) -> None:
    key = server.key("anna")
    before = sorted(server.folder.rglob("*"))
    calls = [
        stub.WriteInput(writes(bad, b"x"), metadata=key),
        stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=bad), metadata=key),
        stub.SignOutput(blobs_pb2.SignOutputRequest(output_id=bad), metadata=key),
        stub.DownloadOutput(blobs_pb2.DownloadOutputRequest(output_id=bad), metadata=key).read(),
        stub.DownloadOutput(
            blobs_pb2.DownloadOutputRequest(
                output_id=bad, signature=server.signer.sign(bad, 2**33), expires=2**33
            )
        ).read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
        assert len(refused.value.details() or "") < 500
    assert sorted(server.folder.rglob("*")) == before


async def test_another_callers_input_does_not_exist(stub: Stub, server: BlobServer) -> None:
    input_id = await _create(stub, server)
    for call in (
        stub.WriteInput(writes(input_id, DATA), metadata=server.key("ben")),
        stub.QueryWriteStatus(
            blobs_pb2.QueryWriteStatusRequest(input_id=input_id), metadata=server.key("ben")
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_without_a_key_nothing_is_made(stub: Stub, server: BlobServer) -> None:
    for ask in (
        lambda: stub.CreateInput(blobs_pb2.CreateInputRequest()),
        lambda: stub.WriteInput(writes(NOBODY, DATA)),
        lambda: stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=NOBODY)),
        lambda: stub.SignOutput(blobs_pb2.SignOutputRequest(output_id=NOBODY)),
    ):
        assert await _refusal(ask) is grpc.StatusCode.UNAUTHENTICATED
    assert await server.store.range("inputs") == []


async def _refusal(ask: Callable[[], Awaitable[object]]) -> grpc.StatusCode:
    """The status that a call ends with. Where the refusal comes while a message is being sent, grpc may lose
    it: that is asked again."""
    for _ in range(5):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask()
        if refused.value.details() != LOCAL_FAILURE:
            break
    code: grpc.StatusCode = refused.value.code()
    return code
