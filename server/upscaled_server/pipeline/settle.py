"""Checks options against limits and fills in what was left out, so that every later step finds plain
values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from upscaled_server.engine.catalogue import Catalogue, ModelSpec
from upscaled_server.errors import InvalidField, NotImplementedHere
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import (
    Alpha,
    ColorSpace,
    Delivery,
    Format,
    MetadataPolicy,
    Options,
    TileOptions,
)

DEFAULT_QUALITY = 90
TILE_SIDES = (64, 4096)

_FILE_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_ENCODED_HERE = (Format.PNG, Format.JPEG, Format.WEBP)


@dataclass(frozen=True, slots=True)
class Settled:
    """Options that have been checked, and the model they name."""

    options: Options
    model: ModelSpec


def settle(
    options: Options, catalogue: Catalogue, limits: LimitSettings, backends: tuple[str, ...]
) -> Settled:
    """The options as they will be used.

    Raises `NotFound` for an unknown model, `InvalidField` for a value outside its range,
    `NotImplementedHere` for what only later versions do.
    """
    model = catalogue.resolve(options.model)
    _check_size(options, limits)
    _check_format(options)
    _check_tiles(options.tiles)
    _check_file_name(options.file_name)
    _refuse_later_features(options)
    if options.backend and options.backend not in backends:
        raise InvalidField(
            "options.backend", "is not available here", limit=", ".join(backends), actual=options.backend[:40]
        )
    lossy = options.format is Format.JPEG or (options.format is Format.WEBP and not options.lossless)
    settled = replace(
        options,
        model=model.name,
        passes=max(1, options.passes),
        quality=(options.quality or DEFAULT_QUALITY) if lossy else None,
    )
    return Settled(settled, model)


def _check_size(options: Options, limits: LimitSettings) -> None:
    given = [name for name in ("width", "height") if getattr(options, name) is not None]
    if options.scale is not None:
        if given:
            raise InvalidField(
                f"options.{given[0]}",
                "cannot be set together with scale",
                limit="scale or width/height",
                actual="both",
            )
        if not (math.isfinite(options.scale) and 0 < options.scale <= limits.max_scale):
            raise InvalidField(
                "options.scale",
                "is out of range",
                limit=f"above 0, at most {limits.max_scale:g}",
                actual=f"{options.scale:g}",
            )
    for name in given:
        value = getattr(options, name)
        if not 1 <= value <= limits.max_output_side:
            raise InvalidField(
                f"options.{name}",
                "is out of range",
                limit=f"1 to {limits.max_output_side} pixels",
                actual=value,
            )
    if not 0 <= options.passes <= limits.max_passes:
        raise InvalidField(
            "options.passes", "is out of range", limit=f"0 to {limits.max_passes}", actual=options.passes
        )


def _check_format(options: Options) -> None:
    if options.format not in _ENCODED_HERE:
        raise NotImplementedHere(f"FORMAT_{options.format}", instead="choose PNG, JPEG or WebP")
    if options.bit_depth not in (0, 8, 16):
        raise InvalidField(
            "options.bit_depth", "is not a bit depth", limit="0, 8 or 16", actual=options.bit_depth
        )
    if options.bit_depth == 16 and options.format is not Format.PNG:
        raise InvalidField(
            "options.bit_depth", f"{options.format} has 8 bits", limit=8, actual=options.bit_depth
        )
    if options.quality is not None:
        if not 1 <= options.quality <= 100:
            raise InvalidField("options.quality", "is out of range", limit="1 to 100", actual=options.quality)
        if options.format is Format.PNG or options.lossless:
            raise InvalidField(
                "options.quality",
                "is for lossy formats",
                limit="JPEG or lossy WebP",
                actual=f"{options.format}, lossless",
            )
    if options.lossless and options.format is Format.JPEG:
        raise InvalidField("options.lossless", "JPEG cannot be lossless", limit="PNG or WebP", actual="JPEG")


def _check_tiles(tiles: TileOptions | None) -> None:
    if tiles is None:
        return
    smallest, largest = TILE_SIDES
    if not smallest <= tiles.size <= largest:
        raise InvalidField(
            "options.tiles.size",
            "is out of range",
            limit=f"{smallest} to {largest} pixels",
            actual=tiles.size,
        )
    if not 1 <= tiles.quality <= 100:
        raise InvalidField("options.tiles.quality", "is out of range", limit="1 to 100", actual=tiles.quality)


def _check_file_name(name: str) -> None:
    size = len(name.encode())
    if size > 255:
        raise InvalidField("options.file_name", "is too long", limit="255 bytes", actual=f"{size} bytes")
    if name and (not _FILE_NAME.fullmatch(name) or name in (".", "..")):
        raise InvalidField(
            "options.file_name",
            "has characters that no file name may have",
            limit="no /, \\ or control characters",
            actual=ascii(name[:80]),
        )


def _refuse_later_features(options: Options) -> None:
    refused = {
        "UpscaleOptions.delivery = DELIVERY_URL": options.delivery is Delivery.URL,
        "UpscaleOptions.progressive": options.progressive,
        "UpscaleOptions.denoise_strength": options.denoise_strength is not None,
        "UpscaleOptions.alpha = ALPHA_NETWORK": options.alpha is Alpha.NETWORK,
        "UpscaleOptions.metadata = METADATA_STRIP_GPS": options.metadata is MetadataPolicy.STRIP_GPS,
        "UpscaleOptions.color_space = COLOR_SPACE_SRGB": options.color_space is ColorSpace.SRGB,
    }
    for feature, asked in refused.items():
        if asked:
            raise NotImplementedHere(feature)
