"""What a network on a card needs of memory and time, counted from its architecture, for plans that are made
before anything is loaded. torch is not imported."""

from __future__ import annotations

from upscaled_server.engine.architectures import Architecture, Compact
from upscaled_server.engine.device import Precision
from upscaled_server.engine.multiply_adds import multiply_adds_per_pixel

VALUE_BYTES: dict[Precision, int] = {"fp16": 2, "bf16": 2, "fp32": 4}

# Operations per second that a data-centre card is expected to do on these networks. Nothing was measured
# here: it only decides how long a step is, and estimates are corrected by what steps take.
_OPERATIONS_PER_SECOND: dict[Precision, float] = {"fp16": 2.5e14, "bf16": 2.5e14, "fp32": 3e13}

# The kernels' own working space, beside the tensors.
_WORKSPACE = 1.5

# Channels that a convolution with three outputs is given.
_PADDED_OUTPUTS = 8


def bytes_per_pixel(architecture: Architecture, precision: Precision) -> int:
    """Peak memory of a piece for each pixel of its input."""
    if isinstance(architecture, Compact):
        # A layer's input and output, or its input and what the shuffle reads; and the pixels of the result.
        outputs = 3 * architecture.scale**2
        values = architecture.features + max(architecture.features, outputs)
        finished = 2 * 2 * outputs
    else:
        features, growth = architecture.features, architecture.growth
        # All partial convolutions of a dense block with the last layer's input and output, the block's input,
        # the outer one and the trunk's; in the tail the enlarged input and the output of a convolution, and
        # the one before, with 16 pixels for one of the trunk.
        trunk = sum(features + growth * layer for layer in range(5)) + growth + 4 * features
        tail = 16 * 2 * features + 4 * features + 16 * _PADDED_OUTPUTS
        values = max(trunk, tail) // architecture.unshuffle**2
        finished = 2 * 2 * 3 * architecture.scale**2
    return round(_WORKSPACE * VALUE_BYTES[precision] * values) + finished


def seconds_per_pixel(architecture: Architecture, precision: Precision) -> float:
    """Device seconds for each pixel of the input."""
    return 2 * multiply_adds_per_pixel(architecture) / _OPERATIONS_PER_SECOND[precision]
