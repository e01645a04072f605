"""RRDBNet: residual-in-residual dense blocks at input resolution (the trunk), then two enlargements (the
tail).

The network of ESRGAN (Wang et al. 2018, arXiv:1809.00219) with the pixel-unshuffled input of Real-ESRGAN x2.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.architectures import Rrdb

_SLOPE = 0.2
_RESIDUAL = 0.2


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DenseBlock(nn.Module):
    """Five convolutions, each of everything before it; the block's input is added to a fifth of the
    result."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _conv(features, growth)
        self.conv2 = _conv(features + growth, growth)
        self.conv3 = _conv(features + 2 * growth, growth)
        self.conv4 = _conv(features + 3 * growth, growth)
        self.conv5 = _conv(features + 4 * growth, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            joined = torch.cat((joined, F.leaky_relu(conv(joined), _SLOPE, inplace=True)), 1)
        result: torch.Tensor = x + self.conv5(joined) * _RESIDUAL
        return result


class ResidualBlock(nn.Module):
    """Three dense blocks with a residual around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.rdb3(self.rdb2(self.rdb1(x))) * _RESIDUAL
        return result


class RrdbNet(nn.Module):
    """(n, 3, h, w) in 0..1 to (n, 3, h * scale, w * scale), about 0..1, not clipped.

    h and w must be multiples of the architecture's `multiple`.
    """

    def __init__(self, architecture: Rrdb) -> None:
        super().__init__()
        features, growth = architecture.features, architecture.growth
        self.unshuffle = architecture.unshuffle
        self.conv_first = _conv(3 * self.unshuffle**2, features)
        self.body = nn.Sequential(*(ResidualBlock(features, growth) for _ in range(architecture.blocks)))
        self.conv_body = _conv(features, features)
        self.conv_up1 = _conv(features, features)
        self.conv_up2 = _conv(features, features)
        self.conv_hr = _conv(features, features)
        self.conv_last = _conv(features, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.tail(self.trunk(image))

    def trunk(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, features, h / unshuffle, w / unshuffle)."""
        first = self.conv_first(F.pixel_unshuffle(image, self.unshuffle))
        trunk: torch.Tensor = first + self.conv_body(self.body(first))
        return trunk

    def tail(self, trunk: torch.Tensor) -> torch.Tensor:
        """(n, features, h, w) to (n, 3, 4 h, 4 w): what sees 1.25 pixels to each side, and takes the most
        memory."""
        up = trunk
        for conv in (self.conv_up1, self.conv_up2):
            up = F.leaky_relu(conv(F.interpolate(up, scale_factor=2, mode="nearest")), _SLOPE, inplace=True)
        up = F.leaky_relu(self.conv_hr(up), _SLOPE, inplace=True)
        result: torch.Tensor = self.conv_last(up)
        return result
