"""What the tests of files do over and over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import grpc
import grpc.aio
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2

from upscaled.v1 import blobs_pb2, blobs_pb2_grpc

Metadata = Sequence[tuple[str, str]]
Stub = blobs_pb2_grpc.BlobsStub


class Alternating:
    """A client whose calls go to one server after the other."""

    def __init__(self, stubs: Sequence[Stub]) -> None:
        self._stubs = cycle(stubs)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._stubs), name)


async def writes(
    input_id: str, data: bytes, *, offset: int = 0, size: int = 1 << 20, finish: bool = True
) -> AsyncIterator[blobs_pb2.WriteInputRequest]:
    for begin in range(0, max(1, len(data)), size):
        yield blobs_pb2.WriteInputRequest(
            input_id=input_id if begin == 0 else "",
            offset=offset if begin == 0 else 0,
            content=httpbody_pb2.HttpBody(data=data[begin : begin + size]),
            finish=finish and begin + size >= len(data),
        )


@dataclass(frozen=True, slots=True)
class Download:
    data: bytes
    metadata: dict[str, str]
    pieces: list[int]
    content_type: str


async def download(stub: Stub, request: blobs_pb2.DownloadOutputRequest, metadata: Metadata = ()) -> Download:
    call = stub.DownloadOutput(request, metadata=metadata)
    first = {key: str(value) for key, value in await call.initial_metadata()}
    bodies = [body async for body in call]
    return Download(
        b"".join(body.data for body in bodies),
        first,
        [len(body.data) for body in bodies],
        bodies[0].content_type if bodies else "",
    )


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The `ErrorInfo` of a refusal."""
    return _detail(error, error_details_pb2.ErrorInfo())


def quota(error: grpc.aio.AioRpcError) -> error_details_pb2.QuotaFailure:
    return _detail(error, error_details_pb2.QuotaFailure())


def _detail(error: grpc.aio.AioRpcError, message):  # type: ignore[no-untyped-def]
    packed = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert any(detail.Unpack(message) for detail in packed.details), packed
    return message
