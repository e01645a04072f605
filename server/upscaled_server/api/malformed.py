"""Messages that are not valid protobuf, or too large for what they are, refused as such.

grpc answers them with UNKNOWN or INTERNAL and the names of Python classes; here they reach the handler as
a value, and the interceptor refuses them like any other bad input.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from upscaled_server.api.message_size import MAX_BESIDE_BYTES, beside_image
from upscaled_server.errors import InvalidInput, LimitExceeded


class NotProtobuf(InvalidInput):
    reason = "NOT_PROTOBUF"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a message that was not, or could not be, parsed. `beside_bytes` is beyond its limit or 0.

    Not an error yet: one that was raised where the message was would keep it in memory.
    """

    size_bytes: int
    beside_bytes: int


def tolerant(kind: Descriptor, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """`parse` for messages of this kind, giving a `Malformed` instead of raising."""

    def deserialize(data: bytes) -> Any:
        beside = beside_image(kind, data)
        if beside > MAX_BESIDE_BYTES:
            return Malformed(len(data), beside)
        try:
            return data if parse is None else parse(data)
        except (DecodeError, UnicodeDecodeError, ValueError):
            return Malformed(len(data), 0)

    return deserialize


def well_formed(request: Any) -> Any:
    """The request, one message or a stream of them. Raises `NotProtobuf` or `LimitExceeded`, for a stream
    when it comes to it."""
    if hasattr(request, "__aiter__"):
        return _each(request)
    if isinstance(request, Malformed):
        if request.beside_bytes:
            raise LimitExceeded(
                "message",
                "is too large beside its image",
                limit=MAX_BESIDE_BYTES,
                actual=request.beside_bytes,
                unit="bytes",
            )
        raise NotProtobuf("the message is not valid protobuf", size_bytes=request.size_bytes)
    return request


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield well_formed(request)
