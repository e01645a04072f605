"""How much arithmetic a network is: multiply-adds of its convolutions, from the architecture alone."""

from __future__ import annotations

from upscaled_server.engine.architectures import Architecture, Compact


def multiply_adds_per_pixel(architecture: Architecture) -> float:
    """For each pixel of the input. Twice this is the number of floating-point operations that is usually
    given. What an image's borders save is not taken off; pointwise operations are not counted."""
    total = 0.0
    for name, shape in architecture.shapes().items():
        if len(shape) == 4:
            outputs, inputs, high, wide = shape
            total += outputs * inputs * high * wide * _positions(architecture, name)
    return total


def _positions(architecture: Architecture, tensor: str) -> float:
    """At how many places a convolution is evaluated for each pixel of the input."""
    if isinstance(architecture, Compact):
        return 1.0
    trunk = 1 / architecture.unshuffle**2
    # The tail works at twice the trunk's resolution, then at four times.
    return trunk * {"conv_up1": 4, "conv_up2": 16, "conv_hr": 16, "conv_last": 16}.get(
        tensor.split(".")[0], 1
    )
