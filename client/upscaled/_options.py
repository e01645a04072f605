"""The options of an upscale, as keywords, and their way into the contract's `UpscaleOptions`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict

from upscaled import _enums
from upscaled._errors import InvalidOptionError
from upscaled._types import Tiles
from upscaled.v1 import options_pb2

FitName: TypeAlias = Literal["contain", "cover", "stretch"]
FormatName: TypeAlias = Literal["png", "jpeg", "webp", "tiff", "avif"]
CompressionName: TypeAlias = Literal["fast", "default", "small"]
ChromaSubsamplingName: TypeAlias = Literal["420", "444"]
AlphaName: TypeAlias = Literal["resample", "network", "flatten"]
MetadataName: TypeAlias = Literal["keep", "strip_gps", "strip"]
ColorSpaceName: TypeAlias = Literal["input", "srgb"]
DeliveryName: TypeAlias = Literal["inline", "url"]
PriorityName: TypeAlias = Literal["interactive", "batch"]


class Options(TypedDict, total=False):
    """What is to be made of the image. An option that is left out, or `None`, is the server's to choose;
    `Result.settings` says what it chose. Ranges are checked by the server, which names field, limit and
    value.
    """

    # Catalogue name or alias, from `client.models.list()`.
    model: str | None
    # Output size as a factor per side, above 0. Not together with `width` or `height`.
    scale: float | None
    # Output size in pixels; a missing side follows the aspect ratio.
    width: int | None
    height: int | None
    # What happens when `width` and `height` have another ratio than the input.
    fit: FitName | None
    # How often the model may be applied for sizes beyond its own factor.
    passes: int | None
    format: FormatName | None
    # Of lossy formats, 1 to 100.
    quality: int | None
    # Lossless WebP or AVIF.
    lossless: bool | None
    # Effort of lossless compression.
    compression: CompressionName | None
    # Progressive JPEG; its first byte comes after the last row.
    progressive: bool | None
    # Chroma resolution of JPEG.
    chroma_subsampling: ChromaSubsamplingName | None
    # 8 or 16 bits per channel.
    bit_depth: int | None
    # For models with `denoise`: 0 leaves more noise and texture, 1 is the model as it is.
    denoise_strength: float | None
    alpha: AlphaName | None
    metadata: MetadataName | None
    color_space: ColorSpaceName | None
    # Corrects the mean colours, which networks shift, to those of the input.
    keep_colors: bool | None
    # Where the file goes: into the answer, or stored under a URL.
    delivery: DeliveryName | None
    priority: PriorityName | None
    # Echoed in answers, callbacks and lists.
    labels: Mapping[str, str] | None
    # The implementation that runs the network, from `server_info().backends`.
    backend: str | None
    # Base name of the output; the extension follows the format.
    file_name: str | None


_ENUMS: Final = {
    "fit": _enums.FIT,
    "format": _enums.FORMAT,
    "compression": _enums.COMPRESSION,
    "chroma_subsampling": _enums.CHROMA_SUBSAMPLING,
    "alpha": _enums.ALPHA,
    "metadata": _enums.METADATA,
    "color_space": _enums.COLOR_SPACE,
    "delivery": _enums.DELIVERY,
    "priority": _enums.PRIORITY,
}


def build_options(call: str, options: Mapping[str, Any]) -> options_pb2.UpscaleOptions:
    """The message for some keywords. A TypeError for a name that is no option of `call`, as Python's own
    calls do.
    """
    message = options_pb2.UpscaleOptions()
    for name, value in options.items():
        if name not in Options.__annotations__:
            raise TypeError(_unknown(call, name))
        if value is None:
            continue
        if name in _ENUMS:
            value = _ENUMS[name].number(name, value)
        _assign(message, name, value)
    return message


def add_tiles(message: options_pb2.UpscaleOptions, tiles: bool | Tiles) -> None:
    """Asks for tiles: `True` with the server's choices, `Tiles(…)` with the caller's."""
    if tiles is False or tiles is None:
        return
    if not isinstance(tiles, bool | Tiles):
        raise InvalidOptionError(f"tiles: True, False or Tiles(…) is expected; got {tiles!r}")
    message.tiles.enabled = True
    if isinstance(tiles, bool):
        return
    if tiles.size is not None:
        _assign(message.tiles, "size", tiles.size)
    if tiles.encoding is not None:
        _assign(message.tiles, "encoding", _enums.TILE_ENCODING.number("tiles.encoding", tiles.encoding))
    if tiles.quality is not None:
        _assign(message.tiles, "quality", tiles.quality)


def _assign(message: Any, name: str, value: object) -> None:
    try:
        if name == "labels":
            message.labels.update(value)
        else:
            setattr(message, name, value)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidOptionError(f"{name}: {value!r} cannot be sent: {error}") from error


def _unknown(call: str, name: str) -> str:
    if name == "tiles":
        return f"{call}() sends no tiles: they arrive as events of upscale_stream(…, tiles=True)"
    close = difflib.get_close_matches(name, Options.__annotations__, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{call}() got an unexpected option {name!r}{hint}"
