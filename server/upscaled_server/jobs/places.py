"""Where the files of a job lie among the blobs."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upscaled_server.errors import DataLoss
from upscaled_server.jobs.ports import Blobs
from upscaled_server.pipeline.events import Tile
from upscaled_server.pipeline.request import TileEncoding

_TILE_HEAD = struct.Struct(">5I16s")


def input_path(job_id: str) -> str:
    return f"job-inputs/{job_id}"


def _tiles_folder(job_id: str) -> str:
    return f"tiles/{job_id}"


def tile_path(job_id: str, sequence: int) -> str:
    return f"{_tiles_folder(job_id)}/{sequence + 1:06d}"


def pack_tile(tile: Tile) -> bytes:
    """Numbers, encoding, then the pixels."""
    encoding = tile.encoding.value.encode()
    head = _TILE_HEAD.pack(tile.sequence, tile.x, tile.y, tile.width, tile.height, encoding)
    return head + tile.data


def unpack_tile(packed: bytes) -> Tile:
    """Raises `DataLoss` for what is no tile."""
    try:
        sequence, x, y, width, height, encoding = _TILE_HEAD.unpack_from(packed)
        kind = TileEncoding(encoding.rstrip(b"\0").decode())
    except (struct.error, ValueError) as error:
        raise DataLoss("a stored tile is damaged", size_bytes=len(packed)) from error
    return Tile(sequence, x, y, width, height, kind, packed[_TILE_HEAD.size :])


@dataclass(frozen=True, slots=True)
class Files:
    """What a job keeps beside its output."""

    blobs: Blobs

    async def read(self, path: str) -> bytes:
        return b"".join([piece async for piece in self.blobs.read(path)])

    async def delete_input(self, job_id: str) -> None:
        await self.blobs.delete(input_path(job_id))

    async def delete_tiles(self, job_id: str) -> None:
        await self.blobs.delete_all(_tiles_folder(job_id))
