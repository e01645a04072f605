"""How one image will be made: sizes, passes of the network and the plan of each, shape of the output."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from decimal import Decimal

from upscaled_server.engine.run import Bits, Planes
from upscaled_server.errors import LimitExceeded
from upscaled_server.media.encode import EncodeOptions, check_encodable, lost, without_position
from upscaled_server.media.info import ImageInfo, Metadata
from upscaled_server.media.size import OutputSize, SizeRequest, output_size
from upscaled_server.pipeline.events import Plan
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Alpha, ColorSpace, Format, MetadataPolicy, Options
from upscaled_server.pipeline.settle import Settled
from upscaled_server.pipeline.tiles import TileGrid, check_band
from upscaled_server.pool.pool import Pool
from upscaled_server.tiling.plan import RunPlan

_EXTENSION = {
    Format.PNG: ".png",
    Format.JPEG: ".jpg",
    Format.WEBP: ".webp",
    Format.TIFF: ".tiff",
    Format.AVIF: ".avif",
}
_CONTENT_TYPE = {
    Format.PNG: "image/png",
    Format.JPEG: "image/jpeg",
    Format.WEBP: "image/webp",
    Format.TIFF: "image/tiff",
    Format.AVIF: "image/avif",
}
DEEP_FORMATS = (Format.PNG, Format.TIFF)
"""Formats that can hold 16 bits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything the later steps need to know before the first pixel. `passes` are those of the colour;
    `bits` and `has_alpha` are the output's."""

    settled: Settled
    info: ImageInfo
    size: OutputSize
    passes: tuple[RunPlan, ...]
    bits: Bits
    has_alpha: bool
    file_name: str
    estimated_seconds: float
    estimated_credits: Decimal = Decimal(0)

    @property
    def options(self) -> Options:
        return self.settled.options

    @property
    def planes(self) -> int:
        return self.info.channels + self.has_alpha

    @property
    def network_alpha(self) -> bool:
        """Whether alpha goes through the network too, in passes like those of the colour."""
        return self.has_alpha and self.options.alpha is Alpha.NETWORK

    @property
    def runs(self) -> tuple[RunPlan, ...]:
        """Every run of the network: the passes of the colour, then those of alpha."""
        return self.passes * 2 if self.network_alpha else self.passes

    @property
    def run_planes(self) -> tuple[Planes, ...]:
        """What each of `runs` gives: RGB, and at the end of the last pass luma for grey and for alpha."""
        between: list[Planes] = [3] * (len(self.passes) - 1)
        colour: list[Planes] = [*between, 1 if self.info.channels == 1 else 3]
        alpha: list[Planes] = [*between, 1] if self.network_alpha else []
        return (*colour, *alpha)

    @property
    def network_factor(self) -> int:
        """By how much all passes together enlarge."""
        return math.prod(plan.scale for plan in self.passes)

    @property
    def network_width(self) -> int:
        return self.info.width * self.network_factor

    @property
    def network_height(self) -> int:
        return self.info.height * self.network_factor

    @property
    def recomputed_share(self) -> float:
        """Over all passes."""
        needed = sum(plan.width * plan.height for plan in self.passes)
        return sum(plan.computed_pixels for plan in self.passes) / needed - 1

    @property
    def encode_options(self) -> EncodeOptions:
        options = self.options
        return EncodeOptions(
            quality=options.quality or EncodeOptions().quality,
            subsampling="4:4:4" if options.full_chroma else "4:2:0",
            flatten_alpha=True,
            lossless=options.lossless,
            progressive=options.progressive,
            compression=options.compression.value,
        )

    @property
    def metadata(self) -> Metadata:
        """What is written beside the pixels, by the policy asked for."""
        found = self.info.metadata
        if self.info.is_converted and not self.converts_back:
            found = replace(found, icc=None)
        match self.options.metadata:
            case MetadataPolicy.STRIP:
                return Metadata(icc=found.icc)
            case MetadataPolicy.STRIP_GPS:
                return without_position(found)
            case MetadataPolicy.KEEP:
                return found

    @property
    def converts_back(self) -> bool:
        """Whether the output is brought from sRGB, in which the network works, into the input's space."""
        return self.info.is_converted and self.options.color_space is ColorSpace.INPUT and self.keeps_grey

    @property
    def keeps_grey(self) -> bool:
        """False where the format makes RGB of grey, which has no use for the profile of a grey space."""
        no_grey = self.options.format is Format.WEBP or (
            self.options.format is Format.AVIF and self.has_alpha
        )
        return not (self.info.channels == 1 and no_grey)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What could not be kept, in words for the caller."""
        found = list(self.info.remarks)
        if self.info.frames > 1:
            found.insert(0, "animated input: only the first frame was used")
        if self.info.is_converted and self.options.color_space is ColorSpace.INPUT and not self.keeps_grey:
            found.append(f"{self.options.format} has no grey with a profile: the answer is in sRGB")
        return (*found, *lost(self.metadata, self.options.format))

    def to_plan(self, queue_position: int, wait_seconds: float = 0.0) -> Plan:
        options = self.options
        grid = (
            None if options.tiles is None else TileGrid(self.size.width, self.size.height, options.tiles.size)
        )
        return Plan(
            input_width=self.info.width,
            input_height=self.info.height,
            output_width=self.size.width,
            output_height=self.size.height,
            bit_depth=self.bits,
            channels=self.planes,
            content_type=_CONTENT_TYPE[options.format],
            file_name=self.file_name,
            tile_count=grid.count if grid else 0,
            tile_columns=grid.columns if grid else 0,
            tile_size=grid.size if grid else 0,
            recomputed_share=self.recomputed_share,
            estimated_seconds=self.estimated_seconds,
            queue_position=queue_position,
            max_output_bytes=self._max_output_bytes(),
            estimated_credits=self.estimated_credits,
            estimated_wait_seconds=wait_seconds,
        )

    def _max_output_bytes(self) -> int:
        """Raw pixels and a twentieth, for formats that may grow what cannot be compressed, and the
        metadata."""
        raw = self.size.width * self.size.height * self.planes * self.bits // 8
        found = self.metadata
        metadata = 3 * sum(  # IPTC in a PNG is text
            len(part) for part in (found.icc, found.exif, found.xmp, found.iptc) if part
        )
        return raw + raw // 20 + metadata + 4096


def lay_out(settled: Settled, info: ImageInfo, limits: LimitSettings, pool: Pool) -> Layout:
    """Decide everything about an image whose header is known.

    Raises `LimitExceeded` or `InvalidField` where the input, the output or a pass between them is too
    large, or the format cannot hold the output.
    """
    options, model = settled.options, settled.model
    _check_side("source", "the image", max(info.width, info.height), limits.max_input_side)
    request = SizeRequest(options.scale, options.width, options.height, options.fit)
    size = output_size(
        info.width, info.height, factor=model.scale, request=request, max_pixels=limits.max_output_pixels
    )
    _check_side("options", "the output", max(size.width, size.height), limits.max_output_side)
    has_alpha = info.has_alpha and options.alpha is not Alpha.FLATTEN and options.format is not Format.JPEG
    bits = _bits(options, info)
    check_encodable(
        options.format, size.width, size.height, channels=info.channels, has_alpha=has_alpha, bits=bits
    )
    if options.tiles is not None:
        check_band(options.tiles, size.width, (info.channels + has_alpha) * bits // 8)
    passes = _passes(settled, info, size, limits, pool)
    layout = Layout(
        settled=settled,
        info=info,
        size=size,
        passes=passes,
        bits=bits,
        has_alpha=has_alpha,
        file_name=(options.file_name or f"upscaled-{secrets.token_hex(8)}") + _EXTENSION[options.format],
        estimated_seconds=0.0,
    )
    seconds = sum(pool.estimate_seconds(settled.variant, plan) for plan in layout.runs)
    return replace(layout, estimated_seconds=seconds)


def _check_side(field: str, what: str, side: int, limit: int) -> None:
    if side > limit:
        raise LimitExceeded(field, f"{what} has too long a side", limit=limit, actual=side, unit="pixels")


def _passes(
    settled: Settled, info: ImageInfo, size: OutputSize, limits: LimitSettings, pool: Pool
) -> tuple[RunPlan, ...]:
    """As many passes as the size needs, at most as many as were asked for."""
    left, top, right, bottom = size.box
    needed = max(size.width / (right - left), size.height / (bottom - top))
    factor, count = settled.model.scale, 1
    while factor < needed and count < settled.options.passes:
        factor, count = factor * settled.model.scale, count + 1
    pixels = info.width * info.height * factor**2
    if pixels > limits.max_output_pixels:
        raise LimitExceeded(
            "options.passes" if count > 1 else "source",
            f"the network's own result of {info.width * factor}x{info.height * factor} is too large",
            limit=limits.max_output_pixels,
            actual=pixels,
            unit="pixels",
        )
    steps = [settled.model.scale**index for index in range(count)]
    return tuple(pool.plan(settled.variant, info.width * step, info.height * step) for step in steps)


def _bits(options: Options, info: ImageInfo) -> Bits:
    """16 where it was asked for, or the input has them and the format can hold them."""
    wanted = options.bit_depth or (info.bits if options.format in DEEP_FORMATS else 8)
    return 16 if wanted == 16 else 8
