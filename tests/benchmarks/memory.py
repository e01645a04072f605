"""Memory: a column of rows without end, and a large image beside the reference.

    python -m tests.benchmarks.memory [--part rows|large] [--out docs/benchmarks/memory.json]

`rows`: x4-plus-anime on images 512 pixels wide, of 1,000 and of 4,000 rows that are made while they are
read, the results thrown away: peak memory of the engine's process with everything in it, what the plan said
of it, and how soon the first rows came. `large`: animevideo-v3 on 4 megapixels, the engine and
`RealESRGANer`, each with the whole result in its memory. Every run has a process of its own. A part leaves
the other's results in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contest import machine
from tests.benchmarks.contest.cases import REPO, Case, picture
from tests.benchmarks.contest.process import EntrantProcess
from tests.benchmarks.contest.weights import options
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.machine import usable_memory
from upscaled_server.engine.weights.store import WeightStore
from upscaled_server.pool.supervisor import ALLOCATOR

ROWS_MODEL, WIDTH, HEIGHTS = "real-esrgan-x4-plus-anime", 512, (1000, 4000)
LARGE = Case("real-esrgan-animevideo-v3", "4")


def run_rows(model: str, width: int, height: int) -> dict[str, Any]:
    """In this process, which should have done nothing else."""
    device = choose_device("cpu")
    engine = Engine(device, WeightStore(options()))
    engine.load(model)
    loaded = machine.status_bytes("VmRSS")
    plan = engine.plan(model, width, height)
    run = engine.open_run(model, plan, 8)
    rng = np.random.default_rng(3)
    first_seconds, began, finished = 0.0, time.perf_counter(), 0
    while not run.done:
        while run.rows_wanted:
            run.feed(rng.integers(0, 256, (run.rows_wanted, width, 3), dtype=np.uint8))
        finished += len(run.step())
        if finished and not first_seconds:
            first_seconds = time.perf_counter() - began
    seconds = time.perf_counter() - began
    run.close()
    engine.close()
    return {
        "model": model,
        "width": width,
        "height": height,
        "loaded_bytes": loaded,
        "peak_bytes": machine.status_bytes("VmHWM"),
        "planned_bytes": plan.needed_bytes,
        "first_rows_seconds": first_seconds,
        "seconds": seconds,
        "plan": plan.to_dict(),
    }


def measure_rows() -> list[dict[str, Any]]:
    results = []
    for height in HEIGHTS:
        command = ["-m", "tests.benchmarks.memory", "--child", str(height)]
        environment = os.environ | ALLOCATOR  # as the server's worker processes have it
        done = subprocess.run(
            [sys.executable, *command],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=REPO,
        )
        results.append(json.loads(done.stdout))
        found = results[-1]
        print(
            f"{found['width']}x{height}: peak {found['peak_bytes'] / 2**20:.0f} MiB, first rows after "
            f"{found['first_rows_seconds']:.1f} s of {found['seconds']:.1f}",
            flush=True,
        )
    return results


def measure_large() -> dict[str, Any]:
    results: dict[str, Any] = {"model": LARGE.model, "width": LARGE.width, "height": LARGE.height}
    with tempfile.TemporaryDirectory(prefix="upscaled-memory-") as folder, tempfile.TemporaryFile() as log:
        image = Path(folder) / "image.npy"
        np.save(image, picture(LARGE))
        for name in ("engine", "realesrganer"):
            with EntrantProcess(name, LARGE, image, int(usable_memory() * 0.8), log) as entrant:
                entrant.run()
            outcome = entrant.outcome
            why = outcome.failed or outcome.skipped
            results[name] = why or {"peak_bytes": outcome.peak_bytes[0], "seconds": outcome.seconds[0]}
            print(f"{LARGE}, {name}: {results[name]}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=("rows", "large"), default="", help="one part only")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/memory.json"))
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(run_rows(ROWS_MODEL, WIDTH, chosen.child)))
        return
    report: dict[str, Any] = json.loads(chosen.out.read_text()) if chosen.out.is_file() else {}
    report["machine"] = machine.describe()
    if chosen.part != "large":
        report["rows"] = measure_rows()
    if chosen.part != "rows":
        report["large"] = measure_large()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"saved {chosen.out}")


if __name__ == "__main__":
    main()
