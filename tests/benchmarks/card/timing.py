"""Timing on a device: wall time of work whose results are in hand, and the rate of plain matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: torch.device, *, rounds: int, warm_up: int) -> list[float]:
    """Seconds of each round, complete on the device, the warm-up left out."""
    taken = []
    for number in range(warm_up + rounds):
        synchronize(device)
        began = time.perf_counter()
        result = work()
        synchronize(device)
        if number >= warm_up:
            taken.append(time.perf_counter() - began)
        del result
    return taken


def matrix_rate(device: torch.device, side: int, *, rounds: int = 20) -> dict[str, Any]:
    """Operations per second of a square fp16 matrix product (fp32 on a CPU) of random numbers: the ceiling
    that networks are compared with."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    # Several in one go, so that what it takes to begin one does not count.
    each = 5
    seconds = seconds_of(
        lambda: [torch.mm(first, second) for _ in range(each)][-1], device, rounds=rounds, warm_up=3
    )
    median = statistics.median(seconds) / each
    return {
        "side": side,
        "type": str(dtype).removeprefix("torch."),
        "seconds": [value / each for value in seconds],
        "tflops": 2 * side**3 / median / 1e12,
    }
