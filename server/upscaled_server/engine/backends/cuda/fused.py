"""What is done between convolutions, in plain torch: the form that `triton_kernels.py` must equal.

Sums are made in fp32 and rounded once to the type of the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.backends.base import LUMA

Activation = Literal["none", "leaky", "prelu"]

LEAKY_SLOPE = 0.2


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What follows the sum of partial convolutions: fp32 `bias` (channels,), then the activation (`slopes`,
    fp32 (channels,), for "prelu")."""

    bias: torch.Tensor
    activation: Activation = "none"
    slopes: torch.Tensor | None = None


Residual = tuple[torch.Tensor, float]
"""(other, factor): the value times the factor is added to the other."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What a network's last convolution yields, without its bias: (n, >= 3 * shuffle**2, h, w).

    The result has `shuffle` times as many rows and columns, and three planes. `adds_image`: the enlarged
    input is added. Channels beyond those needed are padding.
    """

    values: torch.Tensor
    bias: torch.Tensor
    shuffle: int = 1
    adds_image: bool = False


class Ops(Protocol):
    """Tensors are (n, channels, h, w) and channels-last, or views of some channels or (n = 1) rows of
    such."""

    def join(
        self,
        parts: Sequence[torch.Tensor],
        epilogue: Epilogue,
        residuals: Sequence[Residual] = (),
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The sum of the parts, its epilogue, then the residuals in order; to `out` where it is given."""
        ...

    def to_pixels(
        self, raw: Raw, image: torch.Tensor, bits: int, planes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, H, W, planes) uint8, or int16 with the bits of uint16: clipped, rounded half up; with one
        plane, the luma of the clipped result. And int32 (1,), not 0 if a value was not finite.

        `image` is the input, integers (n, h, w, 3).
        """
        ...


class PlainOps:
    """See `Ops`."""

    def join(
        self,
        parts: Sequence[torch.Tensor],
        epilogue: Epilogue,
        residuals: Sequence[Residual] = (),
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        value = parts[0].float()
        for part in parts[1:]:
            value = value + part
        value = value + epilogue.bias[:, None, None]
        if epilogue.activation == "leaky":
            value = F.leaky_relu(value, LEAKY_SLOPE)
        elif epilogue.slopes is not None:
            value = F.prelu(value, epilogue.slopes)
        for other, factor in residuals:
            value = value * factor + other
        if out is None:
            return value.to(parts[0].dtype, memory_format=torch.channels_last)
        return out.copy_(value)

    def to_pixels(
        self, raw: Raw, image: torch.Tensor, bits: int, planes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = to_planes(raw, image)
        bad = (~torch.isfinite(values)).any().to(torch.int32).reshape(1)
        values = values.clamp(0, 1)
        if planes == 1:
            # Numbers, not a tensor: to bring one to the card is not allowed while a graph is recorded.
            red, green, blue = LUMA
            values = values[:, 0:1] * red + values[:, 1:2] * green + values[:, 2:3] * blue
        full = 255 if bits == 8 else 65535
        values = (values.permute(0, 2, 3, 1) * full + 0.5).clamp_(0, full)
        # By way of int32: what does not fit int16 keeps its low bits.
        integers = values.to(torch.uint8) if bits == 8 else values.to(torch.int32).to(torch.int16)
        return integers.contiguous(), bad


def to_planes(raw: Raw, image: torch.Tensor) -> torch.Tensor:
    """The result before rounding: (n, 3, H, W) fp32, about 0..1. `image` as in `Ops.to_pixels`."""
    count = 3 * raw.shuffle**2
    values = F.pixel_shuffle(raw.values[:, :count].float() + raw.bias[:count, None, None], raw.shuffle)
    if not raw.adds_image:
        return values
    return values + F.interpolate(
        from_integers(image, torch.float32), scale_factor=raw.shuffle, mode="nearest"
    )


def from_integers(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, h, w, 3) uint8, or int16 with the bits of uint16, as (n, 3, h, w) in 0..1, channels-last."""
    planes = image.permute(0, 3, 1, 2)
    if image.dtype == torch.uint8:
        values = planes.to(torch.float32) / 255
    else:
        values = planes.to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32) / 65535
    return values.to(dtype, memory_format=torch.channels_last)
