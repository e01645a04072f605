"""From the contract's events to the SDK's values."""

from __future__ import annotations

from upscaled._results import Chunk, Done, Event, Plan, Progress, Result, Tile
from upscaled.v1 import result_pb2


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
