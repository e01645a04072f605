"""Pieces of the result that are sent while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from upscaled import _enums
from upscaled.v1 import result_pb2


@dataclass(frozen=True, slots=True)
class Tile:
    """A finished rectangle of the output. `data` is a whole file, or with `raw_rgb` and `raw_rgba` the pixels
    row by row, 8 bits a channel, without padding. `sequence` counts from 0 in the order of completion.
    """

    sequence: int
    x: int
    y: int
    width: int
    height: int
    encoding: str
    data: bytes = field(repr=False)

    @classmethod
    def from_message(cls, message: result_pb2.Tile) -> Tile:
        return cls(
            sequence=message.sequence,
            x=message.x,
            y=message.y,
            width=message.width,
            height=message.height,
            encoding=_enums.TILE_ENCODING.name(message.encoding),
            data=message.data,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of the encoded file, in order and without gaps."""

    offset: int
    data: bytes = field(repr=False)
