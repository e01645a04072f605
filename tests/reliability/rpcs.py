"""Every rpc of the contract, and how a call of one ends, whatever is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf.descriptor import MethodDescriptor

from upscaled.v1 import account_pb2, admin_pb2, blobs_pb2, jobs_pb2, models_pb2, server_pb2, upscaler_pb2

_FILES: Final = (account_pb2, admin_pb2, blobs_pb2, jobs_pb2, models_pb2, server_pb2, upscaler_pb2)


def methods() -> list[MethodDescriptor]:
    return [
        method
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def status_of(
    channel: grpc.Channel,
    method: MethodDescriptor,
    message: bytes,
    metadata: Sequence[tuple[str, str]] = (),
    timeout: float = 60.0,
) -> tuple[grpc.StatusCode, str]:
    """Of a call with this one message, as it is; all of its answers are read."""
    kinds = [
        "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
    ]
    begin = getattr(channel, "_".join(kinds))(
        path_of(method), request_serializer=None, response_deserializer=None
    )
    sent = iter([message]) if method.client_streaming else message
    try:
        answer = begin(sent, metadata=tuple(metadata), timeout=timeout)
        if method.server_streaming:
            for _ in answer:
                pass
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""
