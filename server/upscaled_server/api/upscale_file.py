"""`Upscaler.UpscaleFile`: the image as the body of a request, the file as the body of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio
from google.api import httpbody_pb2

from upscaled.v1 import options_pb2, result_pb2, upscaler_pb2
from upscaled_server.errors import InvalidField
from upscaled_server.intake.upload import MAX_CHUNK_BYTES

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
FileRequests = AsyncIterator[upscaler_pb2.UpscaleFileRequest]

# A first piece that holds no image yet is possible; a caller that sends nothing else is not served.
_MAX_EMPTY_PIECES = 64


def check_options(first: upscaler_pb2.UpscaleFileRequest) -> None:
    """Raises `InvalidField` for options that an answer of nothing but the file cannot meet."""
    options = first.options
    for field, asked in (
        ("options.tiles.enabled", options.tiles.enabled),
        ("options.omit_file", options.omit_file),
        ("options.delivery", options.delivery == options_pb2.DELIVERY_URL),
    ):
        if asked:
            raise InvalidField(
                field, "cannot be met: this call answers with the file", limit="not set", actual="set"
            )


async def pieces(first: upscaler_pb2.UpscaleFileRequest, rest: FileRequests) -> AsyncIterator[bytes]:
    """The image in pieces of 1 byte to 1 MiB, however the caller or a proxy cut it."""
    for piece in _cut(first.content.data):
        yield piece
    empty = 0
    async for message in rest:
        empty = 0 if message.content.data else empty + 1
        if empty > _MAX_EMPTY_PIECES:
            raise InvalidField(
                "content.data", "is empty again and again", limit=_MAX_EMPTY_PIECES, actual=empty
            )
        for piece in _cut(message.content.data):
            yield piece


def bodies(result: result_pb2.UpscaleResult) -> list[httpbody_pb2.HttpBody]:
    """The file of a result in messages of at most 1 MiB, the first with its content type."""
    (output,) = result.outputs
    return [
        httpbody_pb2.HttpBody(content_type=output.content_type, data=piece) for piece in _cut(output.data)
    ]


def metadata(result: result_pb2.UpscaleResult) -> tuple[tuple[str, str], ...]:
    """What a reader compares the bytes with: over HTTP an error in the middle looks like a clean end."""
    (output,) = result.outputs
    return (
        ("x-upscaled-size-bytes", str(output.size_bytes)),
        ("x-upscaled-sha256", output.sha256.hex()),
        ("content-disposition", f'attachment; filename="{_plain(output.file_name)}"'),
    )


def _cut(data: bytes) -> list[bytes]:
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


def _plain(name: str) -> str:
    """A name that fits between the quotes of a header."""
    return "".join(
        each if each.isascii() and each.isprintable() and each not in '"\\' else "_" for each in name
    )
