"""Where the engine's processor time goes, by library: what there is left to gain, and where.

    python -m tests.benchmarks.shares [--out docs/benchmarks/shares.json]

Samples of `perf record`, which must be there, of the engine's process in the contest while it computes; the
start and the warm-up are not in them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contest import machine
from tests.benchmarks.contest.cases import Case, picture
from tests.benchmarks.contest.process import EntrantProcess
from upscaled_server.engine.machine import usable_memory

CASES = (
    Case("real-esrgan-animevideo-v3", "0.3"),
    Case("real-esrgan-x4-v3", "0.3"),
    Case("real-esrgan-x4-plus-anime", "0.14"),
    Case("real-esrgan-x4-plus", "0.14"),
)
_SECONDS = 12.0
_SAMPLES_A_SECOND = 1000

# What libraries do here, by how their names begin.
_PARTS = {
    "ncnn": "convolutions (ncnn)",
    "libc.so": "copying rows, allocating (libc)",
    "_multiarray_umath": "adding, enlarging, rounding (numpy)",
    "libpython": "Python",
    "[kernel": "the kernel",
}
_LINE = re.compile(r"^\s*([0-9.]+)%\s+(\S+)")


def part_of(library: str) -> str:
    return next((part for start, part in _PARTS.items() if library.startswith(start)), "other")


def shares_of(report: str) -> dict[str, float]:
    """Of `perf report --sort dso`: what part has which share of all samples."""
    found = Counter(dict.fromkeys((*_PARTS.values(), "other"), 0.0))
    for line in report.splitlines():
        if match := _LINE.match(line):
            found[part_of(match[2])] += float(match[1]) / 100
    return {part: round(share, 4) for part, share in found.items()}


def measure(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="upscaled-shares-") as folder, tempfile.TemporaryFile() as log:
        image, data = Path(folder) / "image.npy", Path(folder) / "perf.data"
        np.save(image, picture(case))
        with EntrantProcess("engine_in_worker", case, image, int(usable_memory() * 0.8), log) as entrant:
            one = entrant.run(warm_up=True)
            options = ["-q", "-e", "cpu-clock", "-F", str(_SAMPLES_A_SECOND)]
            perf = subprocess.Popen(["perf", "record", *options, "-p", str(entrant.pid), "-o", str(data)])
            for _ in range(max(1, int(_SECONDS / max(one, 1e-3)))):
                entrant.run()
            perf.send_signal(signal.SIGINT)
            perf.wait(60)
            command = ["perf", "report", "-i", str(data), "--sort", "dso"]
            report = subprocess.run(command, capture_output=True, text=True, check=True)
    return {
        "model": case.model,
        "width": case.width,
        "height": case.height,
        "shares": shares_of(report.stdout),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/shares.json"))
    options = parser.parse_args()
    if shutil.which("perf") is None:
        print("perf is not here, so nothing was measured", file=sys.stderr)
        return 1
    report: dict[str, Any] = {"machine": machine.describe(), "cases": []}
    for case in CASES:
        found = measure(case)
        report["cases"].append(found)
        print(
            f"{case}: " + ", ".join(f"{share:.0%} {part}" for part, share in found["shares"].items()),
            flush=True,
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
