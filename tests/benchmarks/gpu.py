"""The engine on a CUDA card, against RealESRGANer in half precision and torch.compile, in one run.

    python -m tests.benchmarks.gpu [--device cuda:0] [--only MODEL] [--out FILE]
    python -m tests.benchmarks.gpu --device cpu --small     tries every line out; its figures mean nothing

Time, images per second, TFLOP/s (two operations for each multiply-add of the convolutions, counted from the
architecture) and its share of the fp16 matrix rate that this card does in the same run; how far the result is
from the whole image in fp32; and PNG through client and server. Whoever cannot take part is recorded with the
reason. Without a card it says so and fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.card.cases import FULL, SMALL, CardCase
from tests.benchmarks.card.contenders import DEVICE, HOST, Pixels, Prepare, truth
from tests.benchmarks.card.end_to_end import end_to_end
from tests.benchmarks.card.timing import matrix_rate, seconds_of
from tests.benchmarks.contest import machine
from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.arithmetic import operations
from tests.benchmarks.contest.cases import picture

NO_CARD = "there is no CUDA card that torch can use here, so nothing was measured"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:<index>, or cpu to try it out")
    parser.add_argument("--small", action="store_true", help="a tiny case and few rounds")
    parser.add_argument("--only", default="", help="only cases whose model and size contain this")
    parser.add_argument("--rounds", type=int, default=0, help="measured rounds; default 10, or 2 when small")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.json"))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        print(f"{NO_CARD} ({options.device}, torch {torch.__version__})", file=sys.stderr)
        return 1
    cases = [case for case in (SMALL if options.small else FULL) if options.only in str(case)]
    rounds = options.rounds or (2 if options.small else 10)
    rate = matrix_rate(device, 256 if options.small else 8192)
    report: dict[str, Any] = {
        "machine": machine.describe(),
        "device": _describe(device),
        "matrix": rate,
        "cases": [],
    }
    print(f"{report['device']['name']}: {rate['tflops']:.1f} TFLOP/s in {rate['type']} matrix products")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        report["cases"].append(run_case(case, device, rounds, rate["tflops"]))
        # After every case, so that an interrupted run is not lost.
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nsaved {options.out}")
    return 0


def run_case(case: CardCase, device: torch.device, rounds: int, rate: float) -> dict[str, Any]:
    """Everybody on one model and size."""
    count = operations(case.model, case.width, case.height)
    print(f"\n{case}, {count / 1e12:.3g} TFLOP an image")
    image = picture(case)  # type: ignore[arg-type]  # anything with a width and a height
    expected = truth(case, image, device)
    _forget(device)
    results: dict[str, Any] = {}
    for name, (title, prepare) in (HOST | DEVICE).items():
        results[name] = result = _measured(prepare, case, image, device, rounds, expected)
        if "seconds" in result:
            _count(result, count, rate)
        _print(title, result)
        _forget(device)
    results["end_to_end"] = result = _end_to_end(case, image, device, rounds, expected)
    if "images_per_second" in result and "images_per_second" in results["engine_together"]:
        result["of_engine"] = result["images_per_second"] / results["engine_together"]["images_per_second"]
    _print("PNG, client to server and back", result)
    return {**asdict(case), "operations": count, "results": results}


def _measured(
    prepare: Prepare, case: CardCase, image: Pixels, device: torch.device, rounds: int, expected: Pixels
) -> dict[str, Any]:
    with ExitStack() as stack:
        try:
            ready = prepare(case, image, device, stack)
            # Three: first use, the recording of a graph at the second, and the first replay.
            seconds = seconds_of(ready.run, device, rounds=rounds, warm_up=3)
            found = ready.pixels()
        except Exception as error:  # a contender that fails is a result
            return {"failed": f"{type(error).__name__}: {error}"}
        return {
            "seconds": seconds,
            "images": ready.images,
            "accuracy": _accuracy(found, expected),
            **ready.notes,
        }


def _end_to_end(
    case: CardCase, image: Pixels, device: torch.device, rounds: int, expected: Pixels
) -> dict[str, Any]:
    try:
        result = end_to_end(case, image, device, calls=rounds * case.together, at_once=case.together)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return {**result, "pixels": None, "accuracy": _accuracy(result["pixels"], expected)}


def _accuracy(found: NDArray[Any], expected: NDArray[Any]) -> dict[str, float | None]:
    """`beyond_2`: the share of values that differ by more than 2 of 255."""
    beyond = np.count_nonzero(np.abs(found.astype(np.int16) - expected) > 2)
    return {**compare(found, expected), "beyond_2": beyond / expected.size}


def _count(result: dict[str, Any], operations: float, rate: float) -> None:
    seconds = statistics.median(result["seconds"]) / result["images"]
    result["images_per_second"] = 1 / seconds
    result["tflops"] = operations / seconds / 1e12
    result["share_of_matrix_rate"] = result["tflops"] / rate


def _print(title: str, result: dict[str, Any]) -> None:
    if "failed" in result:
        print(f"  {title:<36} not here: {result['failed'].splitlines()[0][:140]}", flush=True)
        return
    accuracy = result["accuracy"]
    said = f"{result['images_per_second']:9.2f} images/s"
    if "tflops" in result:
        said += f" {result['tflops']:8.2f} TFLOP/s {100 * result['share_of_matrix_rate']:5.1f}%"
    if "of_engine" in result:
        said += f" {result['of_engine']:.2f} of the engine's"
    said += f"  PSNR {accuracy['psnr'] or 'inf'}, beyond 2 of 255: {accuracy['beyond_2']:.1e}"
    print(f"  {title:<36} {said}", flush=True)


def _describe(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"name": "CPU, only tried out", "kind": "cpu"}
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "kind": "cuda",
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _forget(device: torch.device) -> None:
    """Give back what the last contender left in the allocator's cache."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
