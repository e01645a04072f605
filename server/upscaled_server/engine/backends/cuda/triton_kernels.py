"""What is done between convolutions, as one kernel each: memory is read once and written once.

cuDNN adds a bias, an activation and a residual in a pass each, and the sum of partial convolutions would take
one pass more for every part. On a card these passes cost as much as the convolutions do.

Triton comes with torch's CUDA builds. It needs a C compiler; where it cannot be used, `fused.PlainOps` is.
"""

# ruff: noqa: N803 - constants of a kernel are written in capitals, as is usual in Triton
# mypy sees no Triton where torch has come without CUDA, and no types where it has: hence the ignores.

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]

from upscaled_server.engine.backends.base import LUMA
from upscaled_server.engine.backends.cuda.fused import LEAKY_SLOPE, Epilogue, PlainOps, Raw, Residual

_MAX_PARTS = 5
_MAX_RESIDUALS = 2
# Values that one program (a block of 4 warps) computes: 32 a thread.
_VALUES = 4096
_PIXELS = 256


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _join_kernel(  # type: ignore[no-untyped-def]
    out,
    bias,
    slopes,
    part0,
    part1,
    part2,
    part3,
    part4,
    residual0,
    residual1,
    out_pitch,
    pitch0,
    pitch1,
    pitch2,
    pitch3,
    pitch4,
    residual_pitch0,
    residual_pitch1,
    factor0,
    factor1,
    pixels,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    RESIDUALS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # 64 bits: a large image's tail has more than 2**31 values.
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    inside = (pixel < pixels)[:, None]
    where = pixel[:, None]
    # The result may be written over the first part: a program reads its values before it writes them.
    value = tl.load(part0 + where * pitch0 + channel[None, :], mask=inside).to(tl.float32)
    if PARTS > 1:
        value += tl.load(part1 + where * pitch1 + channel[None, :], mask=inside).to(tl.float32)
    if PARTS > 2:
        value += tl.load(part2 + where * pitch2 + channel[None, :], mask=inside).to(tl.float32)
    if PARTS > 3:
        value += tl.load(part3 + where * pitch3 + channel[None, :], mask=inside).to(tl.float32)
    if PARTS > 4:
        value += tl.load(part4 + where * pitch4 + channel[None, :], mask=inside).to(tl.float32)
    value += tl.load(bias + channel)[None, :]
    if ACTIVATION == 1:
        value = tl.where(value > 0, value, value * SLOPE)
    if ACTIVATION == 2:
        value = tl.where(value > 0, value, value * tl.load(slopes + channel)[None, :])
    if RESIDUALS > 0:
        other = tl.load(residual0 + where * residual_pitch0 + channel[None, :], mask=inside)
        value = value * factor0 + other.to(tl.float32)
    if RESIDUALS > 1:
        other = tl.load(residual1 + where * residual_pitch1 + channel[None, :], mask=inside)
        value = value * factor1 + other.to(tl.float32)
    tl.store(out + where * out_pitch + channel[None, :], value.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _pixels_kernel(  # type: ignore[no-untyped-def]
    out,
    bad,
    values,
    bias,
    image,
    pitch,
    pixels,
    width,
    SHUFFLE: tl.constexpr,
    ADDS_IMAGE: tl.constexpr,
    IMAGE_FULL: tl.constexpr,
    FULL: tl.constexpr,
    PLANES: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # Pixels of the result, row by row; `width` and `pixels` are its own. All images of a batch are one tall
    # image, since their heights are multiples of the shuffle.
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    row = pixel // width
    column = pixel % width
    source = (row // SHUFFLE) * (width // SHUFFLE) + column // SHUFFLE
    channel = (row % SHUFFLE) * SHUFFLE + column % SHUFFLE
    luma = tl.zeros((BLOCK,), tl.float32)
    wrong = tl.zeros((BLOCK,), tl.int32)
    for plane in tl.static_range(3):
        at = channel + plane * SHUFFLE * SHUFFLE
        value = tl.load(values + source * pitch + at, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(bias + at, mask=inside, other=0.0)
        if ADDS_IMAGE:
            added = tl.load(image + source * 3 + plane, mask=inside, other=0).to(tl.int32)
            # int16 has the bits of uint16.
            value += (added & IMAGE_FULL).to(tl.float32) / IMAGE_FULL
        wrong |= ((value != value) | (tl.abs(value) == float("inf"))).to(tl.int32)
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        if PLANES == 3:
            rounded = (value * FULL + 0.5).to(tl.int32)
            tl.store(out + pixel * 3 + plane, rounded.to(out.dtype.element_ty), mask=inside)
        elif plane == 0:
            luma += value * RED
        elif plane == 1:
            luma += value * GREEN
        else:
            luma += value * BLUE
    if PLANES == 1:
        rounded = tl.minimum(luma * FULL + 0.5, FULL).to(tl.int32)
        tl.store(out + pixel, rounded.to(out.dtype.element_ty), mask=inside)
    # Whoever finds something wrong writes the same 1.
    tl.store(bad + tl.zeros((BLOCK,), tl.int32), wrong, mask=inside & (wrong > 0))


class TritonOps:
    """See `Ops`. What the kernels do not cover goes to `PlainOps`: channels that are no power of two, layouts
    other than channels-last."""

    def __init__(self) -> None:
        self._plain = PlainOps()

    def join(
        self,
        parts: Sequence[torch.Tensor],
        epilogue: Epilogue,
        residuals: Sequence[Residual] = (),
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        first = parts[0]
        channels = first.shape[1]
        if out is None:
            out = torch.empty_like(first, memory_format=torch.channels_last)
        tensors = [out, *parts, *(other for other, _ in residuals)]
        pitches = [_pitch(tensor) for tensor in tensors]
        if 0 in pitches or not _is_power_of_two(channels) or len(parts) > _MAX_PARTS:
            return self._plain.join(parts, epilogue, residuals, out)
        pixels = first.shape[0] * first.shape[2] * first.shape[3]
        if not pixels:
            return out
        block = max(1, _VALUES // channels)
        # Arguments that are not used are anything valid.
        sources = [*parts, *[first] * (_MAX_PARTS - len(parts))]
        others = [*(other for other, _ in residuals), *[first] * (_MAX_RESIDUALS - len(residuals))]
        factors = [*(factor for _, factor in residuals), *[1.0] * (_MAX_RESIDUALS - len(residuals))]
        _join_kernel[(triton.cdiv(pixels, block),)](
            out,
            epilogue.bias,
            epilogue.bias if epilogue.slopes is None else epilogue.slopes,
            *sources,
            *others,
            pitches[0],
            *(_pitch(tensor) for tensor in sources),
            *(_pitch(tensor) for tensor in others),
            *factors,
            pixels,
            CHANNELS=channels,
            PARTS=len(parts),
            RESIDUALS=len(residuals),
            ACTIVATION={"none": 0, "leaky": 1, "prelu": 2}[epilogue.activation],
            SLOPE=LEAKY_SLOPE,
            BLOCK=block,
        )
        return out

    def to_pixels(
        self, raw: Raw, image: torch.Tensor, bits: int, planes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values, shuffle = raw.values, raw.shuffle
        pitch = _pitch(values)
        if not pitch or not image.is_contiguous():
            return self._plain.to_pixels(raw, image, bits, planes)
        count, _, high, wide = values.shape
        height, width = high * shuffle, wide * shuffle
        out = torch.empty(
            (count, height, width, planes),
            dtype=torch.uint8 if bits == 8 else torch.int16,
            device=values.device,
        )
        bad = torch.zeros(1, dtype=torch.int32, device=values.device)
        pixels = count * height * width
        _pixels_kernel[(triton.cdiv(pixels, _PIXELS),)](
            out,
            bad,
            values,
            raw.bias,
            image,
            pitch,
            pixels,
            width,
            SHUFFLE=shuffle,
            ADDS_IMAGE=raw.adds_image,
            IMAGE_FULL=255 if image.dtype == torch.uint8 else 65535,
            FULL=255 if bits == 8 else 65535,
            PLANES=planes,
            RED=LUMA[0],
            GREEN=LUMA[1],
            BLUE=LUMA[2],
            BLOCK=_PIXELS,
        )
        return out, bad


def _pitch(tensor: torch.Tensor) -> int:
    """Values from one pixel to the next, if the pixels of all images follow each other at that distance; 0 if
    not."""
    count, channels, high, wide = tensor.shape
    down, across = tensor.stride(2), tensor.stride(3)
    if channels > 1 and tensor.stride(1) != 1:
        return 0
    # The stride of an axis of length 1 says nothing.
    if wide > 1:
        pitch = across
    elif high > 1:
        pitch = down
    else:
        pitch = tensor.stride(0) if count > 1 else channels
    regular = (high == 1 or down == wide * pitch) and (count == 1 or tensor.stride(0) == high * wide * pitch)
    return pitch if regular else 0


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
