"""The dense blocks of RRDBNet without concatenation: a convolution of joined tensors is the sum of
convolutions of each.

So every tensor is convolved once, with the weights of all layers that will read it side by side, and a layer
adds up its share of what was computed before. That is the same arithmetic without copies, and the matrix
products become wider: 192, 160, 128, 96 and 64 output channels in place of 32, 32, 32, 32 and 64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class WideConv:
    """The weights that several convolutions have for one of their inputs, one below the other: (sum of
    outputs, inputs, 3, 3); `starts` is where each convolution's output channels begin, and the end."""

    weight: torch.Tensor
    starts: tuple[int, ...]

    def share(self, partial: torch.Tensor, reader: int) -> torch.Tensor:
        """A view of what the `reader`-th convolution gets of (n, sum of outputs, h, w)."""
        return partial[:, self.starts[reader] : self.starts[reader + 1]]


def widen(weights: Sequence[torch.Tensor]) -> WideConv:
    """Of convolutions that read the same input: (outputs, inputs, 3, 3) each."""
    starts = [0]
    for weight in weights:
        starts.append(starts[-1] + weight.shape[0])
    joined = torch.cat(list(weights)).contiguous(memory_format=torch.channels_last)
    return WideConv(joined, tuple(starts))


def widen_dense_block(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[WideConv, ...]:
    """One for the block's input and for each of the four layers after it. `name`: such as `body.0.rdb1`."""
    weights = [tensors[f"{name}.conv{layer}.weight"] for layer in range(1, 6)]
    features, growth = weights[0].shape[1], weights[0].shape[0]
    bounds = [0, *(features + growth * layer for layer in range(5))]
    return tuple(
        widen([weight[:, bounds[source] : bounds[source + 1]] for weight in weights[source:]])
        for source in range(5)
    )
