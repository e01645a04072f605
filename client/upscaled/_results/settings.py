"""The options as they were used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from upscaled import _enums
from upscaled._types import Tiles
from upscaled.v1 import options_pb2


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option with the value that was used, in the names that `upscale` takes. What does not apply is
    `None` or empty.
    """

    model: str
    scale: float | None
    width: int | None
    height: int | None
    fit: str
    passes: int
    format: str
    quality: int | None
    lossless: bool
    compression: str
    progressive: bool
    chroma_subsampling: str
    bit_depth: int
    denoise_strength: float | None
    alpha: str
    metadata: str
    color_space: str
    keep_colors: bool
    tiles: Tiles | None
    delivery: str
    priority: str
    labels: Mapping[str, str]
    backend: str
    file_name: str

    @classmethod
    def from_message(cls, message: options_pb2.UpscaleOptions) -> Settings:
        tiles = message.tiles
        return cls(
            model=message.model,
            scale=message.scale if message.HasField("scale") else None,
            width=message.width if message.HasField("width") else None,
            height=message.height if message.HasField("height") else None,
            fit=_enums.FIT.name(message.fit),
            passes=message.passes,
            format=_enums.FORMAT.name(message.format),
            quality=message.quality if message.HasField("quality") else None,
            lossless=message.lossless,
            compression=_enums.COMPRESSION.name(message.compression),
            progressive=message.progressive,
            chroma_subsampling=_enums.CHROMA_SUBSAMPLING.name(message.chroma_subsampling),
            bit_depth=message.bit_depth,
            denoise_strength=message.denoise_strength if message.HasField("denoise_strength") else None,
            alpha=_enums.ALPHA.name(message.alpha),
            metadata=_enums.METADATA.name(message.metadata),
            color_space=_enums.COLOR_SPACE.name(message.color_space),
            keep_colors=message.keep_colors,
            tiles=Tiles(
                size=tiles.size or None,
                encoding=_enums.TILE_ENCODING.name(tiles.encoding) or None,  # type: ignore[arg-type]  # one of the names
                quality=tiles.quality if tiles.HasField("quality") else None,
            )
            if tiles.enabled
            else None,
            delivery=_enums.DELIVERY.name(message.delivery),
            priority=_enums.PRIORITY.name(message.priority),
            labels=dict(message.labels),
            backend=message.backend,
            file_name=message.file_name,
        )
