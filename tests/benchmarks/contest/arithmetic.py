"""How much arithmetic an image is, and what the machine's cores do at most: products of matrices, the densest
arithmetic there is."""

from __future__ import annotations

import time

import numpy as np

from tests.benchmarks.contest.weights import spec_of
from upscaled_server.engine.multiply_adds import multiply_adds_per_pixel

_SIZE = 2048


def operations(model: str, width: int, height: int) -> float:
    """Floating-point operations of the network's convolutions on an image, computed directly."""
    return 2 * multiply_adds_per_pixel(spec_of(model).architecture) * width * height


def matrix_flops() -> float:
    """Operations a second of one fp32 product of two square matrices, by numpy's BLAS on all cores."""
    factor = np.full((_SIZE, _SIZE), 0.5, np.float32)
    began = time.perf_counter()
    np.matmul(factor, factor)
    return 2 * _SIZE**3 / (time.perf_counter() - began)
