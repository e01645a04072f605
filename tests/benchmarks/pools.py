"""What a pool of memory for each thread is worth: images with that, and with one pool for all, in turns.

    python -m tests.benchmarks.pools [--pairs N] [--out FILE]

A core that writes to what another one wrote last fetches it from there, which takes long where the two share
no third level of cache. A virtual machine's cores may be such or not from one minute to the next, so that is
measured before and after each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.benchmarks.contest import machine
from tests.benchmarks.contest.cases import Case, picture
from tests.benchmarks.contest.entrants.engine import prepare_in_worker
from upscaled_server.engine.backends import ncnn_binding
from upscaled_server.engine.backends.ncnn_memory import pool
from upscaled_server.engine.bands import ncnn_bands

CASES = (Case("real-esrgan-animevideo-v3", "0.3"), Case("real-esrgan-x4-plus-anime", "0.06"))
# Fits into the second level of a core's caches.
_BLOCK_BYTES = 256 << 10
_FETCHES = 200


def fetching() -> float:
    """How many times as long a core takes to fill a block that another core wrote last, as one of its own."""
    block = np.zeros(_BLOCK_BYTES // 4, np.float32)
    ours, theirs = [], []

    def timed() -> float:
        began = time.perf_counter()
        block.fill(1)
        return time.perf_counter() - began

    with ExitStack() as stack:
        cores = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(2)]
        for core, number in zip(cores, sorted(os.sched_getaffinity(0)), strict=False):
            core.submit(os.sched_setaffinity, 0, {number}).result()
        for _ in range(_FETCHES):
            cores[1].submit(timed).result()
            theirs.append(cores[0].submit(timed).result())
            ours.append(cores[0].submit(timed).result())
    return statistics.median(theirs) / statistics.median(ours)


def run_pairs(case: Case, pairs: int) -> list[dict[str, float]]:
    """Seconds of an image with a pool for each thread and with one for all, the warm-up left out."""
    entrant, everybodys = prepare_in_worker(case.model, picture(case)), pool()
    samples = []
    try:
        for number in range(-1, pairs):
            before = fetching()
            kinds = {"each": pool, "one": lambda: everybodys}
            order = sorted(kinds, reverse=number % 2 == 1)
            seconds = {kind: _timed(entrant.run, kinds[kind]) for kind in order}
            if number >= 0:
                samples.append({**seconds, "fetching": (before + fetching()) / 2})
    finally:
        entrant.holding.close()
    return samples


def _timed(run: Callable[[], Any], pool_of: Callable[[], Any]) -> float:
    with patch.object(ncnn_binding, "pool", pool_of), patch.object(ncnn_bands, "pool", pool_of):
        began = time.perf_counter()
        run()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="of each case")
    parser.add_argument("--out", type=Path, default=Path("bench-results/pools.json"))
    options = parser.parse_args()
    cases = []
    for case in CASES:
        samples = run_pairs(case, options.pairs)
        cases.append({"model": case.model, "width": case.width, "height": case.height, "samples": samples})
        print(case)
        for sample in sorted(samples, key=lambda each: each["fetching"]):
            ratio = sample["each"] / sample["one"]
            print(
                f"  fetching {sample['fetching']:5.2f}  a pool for each {sample['each']:.3f} s, "
                f"one for all {sample['one']:.3f} s, ratio {ratio:.2f}"
            )
    report = {"machine": machine.describe(), "cases": cases}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
