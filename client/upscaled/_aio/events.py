"""The events of one upscale, as an asynchronous iterator that ends its call when it is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType

from upscaled._results import Chunk, Done, Event, Plan, Progress, Result, Tile
from upscaled.v1 import result_pb2


class EventStream:
    """Plan first, Done last, in between Progress, Tile and Chunk in any mixture.

    Leaving it early cancels the work on the server: a `break` that drops the last reference, `aclose()`, the
    end of an `async with`, or closing the client.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def aclose(self) -> None:
        """Cancels the call if it is still running."""
        await self._events.aclose()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def event_of(message: result_pb2.UpscaleEvent) -> Event | None:
    """The value for a message; `None` for an event that only a newer contract knows."""
    kind = message.WhichOneof("event")
    if kind == "chunk":
        return Chunk(message.chunk.offset, message.chunk.data)
    if kind == "tile":
        return Tile.from_message(message.tile)
    if kind == "progress":
        return Progress.from_message(message.progress)
    if kind == "plan":
        return Plan.from_message(message.plan)
    if kind == "done":
        return Done(Result.from_message(message.done))
    return None
