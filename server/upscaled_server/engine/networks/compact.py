"""SRVGGNetCompact: all its convolutions at input resolution, then one pixel shuffle.

The network of `realesr-animevideov3` and `realesr-general-x4v3`, described in the Real-ESRGAN repository
(BSD-3).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from upscaled_server.engine.architectures import Compact


class CompactNet(nn.Module):
    """(n, 3, h, w) in 0..1 to (n, 3, h * scale, w * scale), about 0..1, not clipped."""

    def __init__(self, architecture: Compact) -> None:
        super().__init__()
        features, self.scale = architecture.features, architecture.scale
        layers: list[nn.Module] = []
        for index in range(architecture.convs + 1):
            layers.append(nn.Conv2d(3 if index == 0 else features, features, 3, padding=1))
            layers.append(nn.PReLU(features))
        layers.append(nn.Conv2d(features, 3 * self.scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        detail = F.pixel_shuffle(self.body(image), self.scale)
        return detail + F.interpolate(image, scale_factor=self.scale, mode="nearest")
