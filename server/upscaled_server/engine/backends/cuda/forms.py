"""The forms in which a network can be computed on a card; all give the same result but for rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.architectures import Compact, Rrdb
from upscaled_server.engine.backends.cuda.fused import Epilogue, Ops, Raw
from upscaled_server.engine.networks.wide import widen_dense_block

_RESIDUAL = 0.2

# cuDNN's matrix kernels want channels in eights; the last convolutions have three.
_CHANNEL_GROUP = 8

Tensors = Mapping[str, torch.Tensor]
"""A network's tensors by their upstream names, in fp32."""


class Form(Protocol):
    """A network on a device, in one type. (n, 3, h, w) in 0..1 and that type, channels-last, to `Raw`."""

    def __call__(self, image: torch.Tensor) -> Raw: ...


class ModuleForm:
    """A torch module as it is. `module` takes (n, 3, h, w) and gives (n, 3, h * scale, w * scale)."""

    def __init__(self, module: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> None:
        self._module = module
        self._no_bias = torch.zeros(3, device=device)

    def __call__(self, image: torch.Tensor) -> Raw:
        values = self._module(image)
        return Raw(values.contiguous(memory_format=torch.channels_last), self._no_bias)


class _Weights:
    """Brings tensors to the device: weights in the network's type, what is added in fp32."""

    def __init__(self, tensors: Tensors, device: torch.device, dtype: torch.dtype) -> None:
        self._tensors = tensors
        self._device = device
        self._dtype = dtype

    def weight(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self._device, self._dtype, memory_format=torch.channels_last)

    def conv(self, name: str, *, pad: bool = False) -> torch.Tensor:
        return self.weight(
            _padded(self._tensors[f"{name}.weight"]) if pad else self._tensors[f"{name}.weight"]
        )

    def vector(self, name: str, *, pad: bool = False) -> torch.Tensor:
        value = self._tensors[name]
        return (_padded(value) if pad else value).to(self._device, torch.float32)


class CompactForm:
    """A compact network: bias and slopes are applied in one pass."""

    def __init__(
        self, architecture: Compact, tensors: Tensors, ops: Ops, device: torch.device, dtype: torch.dtype
    ) -> None:
        weights = _Weights(tensors, device, dtype)
        last = 2 * (architecture.convs + 1)
        self._ops = ops
        self._scale = architecture.scale
        self._layers = [
            (
                weights.conv(f"body.{index}"),
                Epilogue(
                    weights.vector(f"body.{index}.bias"), "prelu", weights.vector(f"body.{index + 1}.weight")
                ),
            )
            for index in range(0, last, 2)
        ]
        self._last = weights.conv(f"body.{last}", pad=True)
        self._bias = weights.vector(f"body.{last}.bias", pad=True)

    def __call__(self, image: torch.Tensor) -> Raw:
        value = image
        for weight, epilogue in self._layers:
            value = F.conv2d(value, weight, padding=1)
            value = self._ops.join((value,), epilogue, out=value)
        return Raw(F.conv2d(value, self._last, padding=1), self._bias, self._scale, adds_image=True)


class _DenseBlock:
    """See `networks/wide.py`."""

    def __init__(self, name: str, tensors: Tensors, ops: Ops, weights: _Weights) -> None:
        self._ops = ops
        self._wide = widen_dense_block(tensors, name)
        self._weights = [weights.weight(wide.weight) for wide in self._wide]
        self._epilogues = [
            Epilogue(weights.vector(f"{name}.conv{layer}.bias"), "leaky" if layer < 5 else "none")
            for layer in range(1, 6)
        ]

    def __call__(self, x: torch.Tensor, *outer: torch.Tensor) -> torch.Tensor:
        """`outer`: what a fifth of the block's own result is added to, for the last of three blocks."""
        partials: list[torch.Tensor] = []
        source = x
        for layer, epilogue in enumerate(self._epilogues):
            partials.append(F.conv2d(source, self._weights[layer], padding=1))
            # The partial of tensor t serves the layers t, t + 1, ...
            parts = [self._wide[t].share(partial, layer - t) for t, partial in enumerate(partials)]
            residuals = [(other, _RESIDUAL) for other in (x, *outer)] if layer == 4 else []
            source = self._ops.join(parts, epilogue, residuals)
        return source


class WideForm:
    """An RRDB network: dense blocks without concatenation, and each convolution's bias, activation and
    residuals in one pass."""

    def __init__(
        self, architecture: Rrdb, tensors: Tensors, ops: Ops, device: torch.device, dtype: torch.dtype
    ) -> None:
        weights = _Weights(tensors, device, dtype)
        self._ops = ops
        self._unshuffle = architecture.unshuffle
        self._blocks = [
            [_DenseBlock(f"body.{block}.rdb{dense}", tensors, ops, weights) for dense in (1, 2, 3)]
            for block in range(architecture.blocks)
        ]
        self._first, self._body = weights.conv("conv_first"), weights.conv("conv_body")
        self._first_end = Epilogue(weights.vector("conv_first.bias"))
        self._body_end = Epilogue(weights.vector("conv_body.bias"))
        self._tail = [
            (weights.conv(name), Epilogue(weights.vector(f"{name}.bias"), "leaky"))
            for name in ("conv_up1", "conv_up2", "conv_hr")
        ]
        self._last, self._last_bias = (
            weights.conv("conv_last", pad=True),
            weights.vector("conv_last.bias", pad=True),
        )

    def __call__(self, image: torch.Tensor) -> Raw:
        image = F.pixel_unshuffle(image, self._unshuffle) if self._unshuffle > 1 else image
        return self._enlarge(self._trunk(image.contiguous(memory_format=torch.channels_last)))

    def _trunk(self, image: torch.Tensor) -> torch.Tensor:
        first = self._conv(image, self._first, self._first_end)
        x = first
        for one, two, three in self._blocks:
            x = three(two(one(x)), x)
        body = F.conv2d(x, self._body, padding=1)
        return self._ops.join((body,), self._body_end, [(first, 1.0)], out=body)

    def _enlarge(self, trunk: torch.Tensor) -> Raw:
        up = trunk
        for number, (weight, end) in enumerate(self._tail):
            if number < 2:
                up = F.interpolate(up, scale_factor=2, mode="nearest")
            up = self._conv(up, weight, end)
        return Raw(F.conv2d(up, self._last, padding=1), self._last_bias)

    def _conv(self, x: torch.Tensor, weight: torch.Tensor, end: Epilogue) -> torch.Tensor:
        value = F.conv2d(x, weight, padding=1)
        return self._ops.join((value,), end, out=value)


def _padded(value: torch.Tensor) -> torch.Tensor:
    """With zeros for more output channels, up to a whole group."""
    missing = -value.shape[0] % _CHANNEL_GROUP
    if not missing:
        return value
    zeros: torch.Tensor = torch.zeros(missing, *value.shape[1:], dtype=value.dtype)
    return torch.cat((value, zeros))
