"""Messages that are not valid protobuf, refused as such.

grpc answers them with UNKNOWN or INTERNAL and the names of Python classes; here they reach the handler as
a value, and the interceptor refuses them like any other bad input.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from upscaled_server.errors import InvalidInput


class NotProtobuf(InvalidInput):
    reason = "NOT_PROTOBUF"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a message that could not be parsed."""

    size_bytes: int


def tolerant(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """`parse`, giving a `Malformed` instead of raising."""

    def deserialize(data: bytes) -> Any:
        try:
            return data if parse is None else parse(data)
        except (DecodeError, UnicodeDecodeError, ValueError):
            return Malformed(len(data))

    return deserialize


def well_formed(request: Any) -> Any:
    """The request, one message or a stream of them. Raises `NotProtobuf`, for a stream when it comes to
    it."""
    if hasattr(request, "__aiter__"):
        return _each(request)
    if isinstance(request, Malformed):
        raise NotProtobuf("the message is not valid protobuf", size_bytes=request.size_bytes)
    return request


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield well_formed(request)
