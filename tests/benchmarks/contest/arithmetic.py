"""How much arithmetic an image is, and what the machine's cores do at most: products of matrices, the densest
arithmetic there is."""

from __future__ import annotations

import time

import numpy as np

from tests.benchmarks.contest.weights import spec_of
from upscaled_server.engine.multiply_adds import multiply_adds_per_pixel

_SIZE = 2048
# Of a product that takes some hundredths of a second, and how long the threads that computed it look for more
# to do.
_SMALL, _SPINNING_SECONDS = 1024, 0.05


def operations(model: str, width: int, height: int) -> float:
    """Floating-point operations of the network's convolutions on an image, computed directly."""
    return 2 * multiply_adds_per_pixel(spec_of(model).architecture) * width * height


def matrix_flops(size: int = _SIZE) -> float:
    """Operations a second of one fp32 product of two square matrices, by numpy's BLAS on all cores."""
    factor = np.full((size, size), 0.5, np.float32)
    began = time.perf_counter()
    np.matmul(factor, factor)
    return 2 * size**3 / (time.perf_counter() - began)


def machine_flops() -> float:
    """The better rate of two small products, which tells how fast the machine is at this moment. Returns when
    the cores are free again."""
    rate = max(matrix_flops(_SMALL), matrix_flops(_SMALL))
    time.sleep(_SPINNING_SECONDS)
    return rate
