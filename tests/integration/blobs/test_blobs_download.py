"""Downloads over a real connection, with a key and with a signature."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
import pytest
from blob_server import BlobServer, serving
from blob_tools import Stub, download, info
from google.protobuf.duration_pb2 import Duration
from tests.chaos import transfers

from upscaled.v1 import blobs_pb2, blobs_pb2_grpc

DATA = os.urandom(3_000_001)


def _get(output_id: str, **fields: object) -> blobs_pb2.DownloadOutputRequest:
    return blobs_pb2.DownloadOutputRequest(output_id=output_id, **fields)


async def _refusal(stub: Stub, request: blobs_pb2.DownloadOutputRequest, metadata=()) -> grpc.aio.AioRpcError:  # type: ignore[no-untyped-def]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await download(stub, request, metadata)
    return refused.value


async def test_size_and_hash_come_before_the_bytes(stub: Stub, server: BlobServer) -> None:
    made = await server.output(DATA)
    found = await download(stub, _get(made.id), server.key("anna"))
    assert found.data == DATA
    assert found.metadata["x-upscaled-size-bytes"] == str(len(DATA))
    assert found.metadata["x-upscaled-sha256"] == hashlib.sha256(DATA).hexdigest()
    assert found.metadata["content-disposition"].endswith("filename*=UTF-8''gr%C3%B6%C3%9Fe.png")
    assert found.content_type == "image/png"
    assert max(found.pieces) <= 1 << 20


@pytest.mark.parametrize("offset", [0, 1, 1 << 20, len(DATA) - 1, len(DATA)])
async def test_a_download_goes_on_at_any_offset(stub: Stub, server: BlobServer, offset: int) -> None:
    made = await server.output(DATA)
    found = await download(stub, _get(made.id, offset=offset), server.key("anna"))
    assert found.data == DATA[offset:]
    assert found.metadata["x-upscaled-size-bytes"] == str(len(DATA))


async def test_a_download_that_is_cut_goes_on_where_it_was(stub: Stub, server: BlobServer) -> None:
    data = random.Random(8).randbytes(8_000_000)
    made = await server.output(data)
    cuts = transfers.random_cuts(9, 10, len(data))
    assert (await transfers.download(stub, made.id, data, cuts, server.key("anna"))).equal


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (len(DATA) + 1, grpc.StatusCode.OUT_OF_RANGE),
        (2**63 - 1, grpc.StatusCode.OUT_OF_RANGE),
        (-1, grpc.StatusCode.INVALID_ARGUMENT),
        (-(2**63), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_an_offset_outside_the_file_is_refused(
    stub: Stub, server: BlobServer, offset: int, code: grpc.StatusCode
) -> None:
    made = await server.output(DATA)
    assert (await _refusal(stub, _get(made.id, offset=offset), server.key("anna"))).code() is code


async def test_another_callers_output_does_not_exist(stub: Stub, server: BlobServer) -> None:
    made = await server.output(DATA)
    assert (await _refusal(stub, _get(made.id), server.key("ben"))).code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.SignOutput(blobs_pb2.SignOutputRequest(output_id=made.id), metadata=server.key("ben"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("servers", ["alone"], indirect=True)  # an object store signs URLs of its own
async def test_a_signed_url_serves_its_output_without_a_key(stub: Stub, server: BlobServer) -> None:
    made = await server.output(DATA)
    answer = await stub.SignOutput(
        blobs_pb2.SignOutputRequest(output_id=made.id, lifetime=Duration(seconds=30)),
        metadata=server.key("anna"),
    )
    url = urlsplit(answer.url)
    assert (url.scheme, url.netloc, url.path) == (
        "https",
        "images.example.com",
        f"/v1/outputs/{made.id}:download",
    )
    query = parse_qs(url.query)
    signed = _get(made.id, signature=query["signature"][0], expires=int(query["expires"][0]), offset=5)
    assert (await download(stub, signed)).data == DATA[5:]
    # Whoever has a key of another caller may use the URL too.
    assert (await download(stub, signed, server.key("ben"))).data == DATA[5:]


@pytest.mark.parametrize("servers", ["two over nats and s3"], indirect=True)
async def test_where_the_object_store_can_sign_its_own_url_serves_the_output(
    stub: Stub, server: BlobServer
) -> None:
    made = await server.output(DATA)
    answer = await stub.SignOutput(
        blobs_pb2.SignOutputRequest(output_id=made.id, lifetime=Duration(seconds=30)),
        metadata=server.key("anna"),
    )

    def get() -> bytes:
        with urllib.request.urlopen(answer.url, timeout=60) as found:
            return bytes(found.read())

    assert await asyncio.to_thread(get) == DATA


async def test_only_a_right_signature_opens_an_output(stub: Stub, server: BlobServer) -> None:
    made, other = await server.output(DATA), await server.output(b"other")
    later, past = int(time.time()) + 100, int(time.time()) - 1
    right = server.signer.sign(made.id, later)
    for request in (
        _get(made.id),
        _get(made.id, expires=later),
        _get(made.id, signature="A" * 43, expires=later),
        _get(made.id, signature=right, expires=later + 1),
        _get(other.id, signature=right, expires=later),
        _get(made.id, signature=server.signer.sign(made.id, past), expires=past),
    ):
        assert (await _refusal(stub, request)).code() is grpc.StatusCode.UNAUTHENTICATED
        if request.signature:
            refused = await _refusal(stub, request, server.key("anna"))
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    wrong_key = [("authorization", "Bearer upk_wrong")]
    refused = await _refusal(stub, _get(made.id, signature=right, expires=later), wrong_key)
    assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert info(refused).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("expires", [0, -1, -(2**63), 2**63 - 1])
async def test_a_signature_needs_its_time(stub: Stub, server: BlobServer, expires: int) -> None:
    made = await server.output(DATA)
    signed = _get(made.id, signature=server.signer.sign(made.id, expires), expires=expires)
    assert (await _refusal(stub, signed)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_url_ends_with_its_output(stub: Stub, server: BlobServer) -> None:
    made = await server.output(DATA, seconds=50)
    answer = await stub.SignOutput(
        blobs_pb2.SignOutputRequest(output_id=made.id), metadata=server.key("anna")
    )
    assert answer.expire_time.seconds <= made.expires_at


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1, 315_576_000_000, 2**63 - 1])
async def test_a_url_lives_for_a_second_to_a_week(stub: Stub, server: BlobServer, seconds: int) -> None:
    made = await server.output(DATA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.SignOutput(
            blobs_pb2.SignOutputRequest(output_id=made.id, lifetime=Duration(seconds=seconds)),
            metadata=server.key("anna"),
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_where_nobody_needs_a_key_outputs_are_everybodys(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, with_keys=False) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = blobs_pb2_grpc.BlobsStub(channel)
        made = await server.output(DATA, caller="-")
        assert (await download(stub, _get(made.id))).data == DATA
        hers = await server.output(DATA, caller="anna")
        assert (await _refusal(stub, _get(hers.id))).code() is grpc.StatusCode.NOT_FOUND
        later = int(time.time()) + 100
        signed = _get(hers.id, signature=server.signer.sign(hers.id, later), expires=later)
        assert (await download(stub, signed)).data == DATA


async def test_calls_that_show_neither_key_nor_signature_take_little_room(server: BlobServer) -> None:
    made = await server.output(DATA)
    later = int(time.time()) + 100
    signed = _get(made.id, signature=server.signer.sign(made.id, later), expires=later)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        await channel.channel_ready()  # calls that wait for a connection come in any order
        silent = [channel.stream_stream("/upscaled.v1.Blobs/DownloadOutput")() for _ in range(16)]
        refusals = {(await _refusal(stub, _get(made.id))).code() for _ in range(50)}
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in refusals
        assert (await download(stub, _get(made.id), server.key("anna"))).data == DATA
        for call in silent:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await call.read()
            assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await download(stub, signed)).data == DATA
