"""Checks options against limits and fills in what was left out, so that every later step finds plain
values."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, replace
from typing import get_args

from upscaled_server.access.caller import ANONYMOUS, Caller, Priority
from upscaled_server.engine.catalogue import Catalogue, Spec
from upscaled_server.engine.device import BackendName, backend_missing
from upscaled_server.engine.variant import DENOISE_STEPS, Variant
from upscaled_server.errors import InvalidField
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Format, Options, TileOptions

DEFAULT_QUALITY = 90
TILE_SIDES = (64, 4096)

# With the extension, what file systems take.
_MAX_FILE_NAME_BYTES = 250

# Control and format characters, surrogates, line and paragraph separators.
_UNUSABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_LOSSLESS = (Format.PNG, Format.TIFF)
_DEEP = _LOSSLESS


@dataclass(frozen=True, slots=True)
class Settled:
    """Options that have been checked, the model they name, and the variant of it that they ask for."""

    options: Options
    model: Spec
    variant: Variant


def settle(
    options: Options,
    catalogue: Catalogue,
    limits: LimitSettings,
    backends: tuple[str, ...],
    caller: Caller = ANONYMOUS,
) -> Settled:
    """The options as they will be used.

    Raises `NotFound` for an unknown model, `InvalidField` for a value outside its range,
    `PermissionDenied` for a model or a priority that the caller may not use, `FailedPrecondition` for a
    backend that is not installed.
    """
    model = catalogue.resolve(options.model)
    caller.check_model(model.name)
    priority = caller.priority_for(options.priority, default=Priority.INTERACTIVE)
    _check_size(options, limits)
    _check_format(options)
    _check_tiles(options.tiles)
    _check_file_name(options.file_name)
    _check_backend(options.backend, backends, model)
    denoise = _denoise(options.denoise_strength, model)
    lossy = options.format not in _LOSSLESS and not options.lossless
    settled = replace(
        options,
        model=model.name,
        passes=max(1, options.passes),
        quality=(options.quality or DEFAULT_QUALITY) if lossy else None,
        denoise_strength=None if denoise is None else denoise / DENOISE_STEPS,
        priority=priority,
    )
    # At full strength the model is as it is, and shared with those who did not ask.
    adjusted = None if denoise == DENOISE_STEPS else denoise
    return Settled(settled, model, Variant(model.name, options.backend, adjusted))


def _check_backend(backend: str, backends: tuple[str, ...], model: Spec) -> None:
    if backend and model.only_backend not in ("", backend):
        raise InvalidField(
            "options.backend",
            f"cannot run {model.name}",
            limit=model.only_backend,
            actual=ascii(backend[:40]),
        )
    if not backend or backend in backends:
        return
    if backend in get_args(BackendName):
        raise backend_missing(backend)
    raise InvalidField(
        "options.backend", "is not available here", limit=", ".join(backends), actual=ascii(backend[:40])
    )


def _denoise(strength: float | None, model: Spec) -> int | None:
    """Hundredths. Raises `InvalidField` out of range, and for models that have no counterpart."""
    if strength is None:
        return None
    if not model.counterpart:
        raise InvalidField(
            "options.denoise_strength",
            f"does not apply to {model.name}",
            limit="a model with `denoise`",
            actual=f"{strength:g}",
        )
    if not 0 <= strength <= 1:
        raise InvalidField(
            "options.denoise_strength", "is out of range", limit="0 to 1", actual=f"{strength:g}"
        )
    return round(strength * DENOISE_STEPS)


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
    if options.bit_depth not in (0, 8, 16):
        raise InvalidField(
            "options.bit_depth", "is not a bit depth", limit="0, 8 or 16", actual=options.bit_depth
        )
    if options.bit_depth == 16 and options.format not in _DEEP:
        raise InvalidField(
            "options.bit_depth", f"{options.format} has 8 bits", limit=8, actual=options.bit_depth
        )
    if options.quality is not None:
        if not 1 <= options.quality <= 100:
            raise InvalidField("options.quality", "is out of range", limit="1 to 100", actual=options.quality)
        if options.format in _LOSSLESS or options.lossless:
            raise InvalidField(
                "options.quality",
                "is for lossy formats",
                limit="JPEG, AVIF or lossy WebP",
                actual=f"{options.format}, lossless",
            )
    if options.lossless and options.format in (Format.JPEG, Format.AVIF):
        raise InvalidField(
            "options.lossless",
            f"{options.format} is written lossy",
            limit="PNG, TIFF or WebP",
            actual=options.format,
        )
    if options.progressive and options.format is not Format.JPEG:
        raise InvalidField("options.progressive", "is for JPEG", limit="JPEG", actual=options.format)


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
    if size > _MAX_FILE_NAME_BYTES:
        raise InvalidField(
            "options.file_name", "is too long", limit=f"{_MAX_FILE_NAME_BYTES} bytes", actual=f"{size} bytes"
        )
    unusable = any(each in "/\\" or unicodedata.category(each) in _UNUSABLE for each in name)
    if unusable or name != name.strip() or name in (".", ".."):
        raise InvalidField(
            "options.file_name",
            "has characters that no file name may have",
            limit="no /, \\ or control characters",
            actual=ascii(name[:80]),
        )
