"""The engine against its peers, in one run, on the same images and weights.

    python -m tests.benchmarks.peers [--short] [--only MODEL] [--entrants NAME,NAME] [--out FILE]

Every entrant has a process of its own, so that its peak memory is its own; all of them are alive at once and
take turns, so that a slow minute of the machine hits all alike. The first round of each case is a warm-up and
is dropped. Running out of memory is a result, and recorded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contest import machine
from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.cases import FULL, SHORT, Case, picture, source
from tests.benchmarks.contest.entrants import ENTRANTS, TRUTH
from tests.benchmarks.contest.process import EntrantProcess
from upscaled_server.engine.machine import usable_memory

# Measured rounds of a case: as many as fit into the time, within these bounds.
MIN_ROUNDS, MAX_ROUNDS = 2, 7


def run_case(case: Case, names: list[str], *, seconds: float, limit_bytes: int, log: Path) -> dict[str, Any]:
    """All entrants on one model and size; the results by entrant."""
    with tempfile.TemporaryDirectory(prefix="upscaled-contest-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        np.save(folder / "image.npy", picture(case))
        errors = stack.enter_context(log.open("ab"))
        entrants = [
            stack.enter_context(EntrantProcess(name, case, folder / "image.npy", limit_bytes, errors))
            for name in names
        ]
        round_seconds = sum(entrant.run(warm_up=True) for entrant in entrants)
        rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / max(round_seconds, 1e-3))))
        for number in range(rounds):
            # Turning the order round takes away what there is to gain from coming after somebody.
            for entrant in entrants if number % 2 == 0 else reversed(entrants):
                entrant.run()
        _measure_accuracy(entrants, folder)
        return {entrant.name: asdict(entrant.outcome) for entrant in entrants}


def _measure_accuracy(entrants: list[EntrantProcess], folder: Path) -> None:
    truth = next((entrant for entrant in entrants if entrant.name == TRUTH), None)
    if truth is None or not truth.save(folder / "truth.npy"):
        return
    pixels = np.load(folder / "truth.npy", mmap_mode="r")
    for entrant in entrants:
        path = folder / f"{entrant.name}.npy"
        if entrant.save(path):
            entrant.outcome.accuracy = compare(np.load(path, mmap_mode="r"), pixels)
            path.unlink()


def _print(case: Case, results: dict[str, Any]) -> None:
    print(f"\n{case.model}, {case.width}x{case.height}")
    for name, result in results.items():
        if result["skipped"] or result["failed"]:
            said = f"skipped: {result['skipped']}" if result["skipped"] else f"failed: {result['failed']}"
        else:
            accuracy = result["accuracy"] or {}
            said = (
                f"{statistics.median(result['seconds']):8.2f} s {max(result['peak_bytes']) / 1e6:8.0f} MB  "
                f"PSNR {accuracy.get('psnr') or 'inf'}, largest {accuracy.get('largest')}"
            )
        print(f"  {ENTRANTS[name].title:<50} {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a few small cases")
    parser.add_argument("--only", default="", help="only cases whose model and size contain this")
    parser.add_argument("--entrants", default=",".join(ENTRANTS), help="who takes part, with commas")
    parser.add_argument("--seconds", type=float, default=0, help="time for the rounds of a case")
    parser.add_argument("--memory-gb", type=float, default=0, help="limit for each entrant's process")
    parser.add_argument("--out", type=Path, default=Path("bench-results/peers.json"))
    options = parser.parse_args()
    names = options.entrants.split(",")
    cases = [case for case in (SHORT if options.short else FULL) if options.only in str(case)]
    limit = int(options.memory_gb * 1e9) or int(usable_memory() * 0.8)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "machine": machine.describe(),
        "picture": source().name,
        "limit_bytes": limit,
        "short": options.short,
        "cases": [],
    }
    print(f"{report['machine']['cpu']}, {report['machine']['cores']} cores, load {report['machine']['load']}")
    for case in cases:
        results = run_case(
            case,
            names,
            seconds=options.seconds or (20 if options.short else 240),
            limit_bytes=limit,
            log=options.out.with_suffix(".log"),
        )
        report["cases"].append(
            {**asdict(case), "width": case.width, "height": case.height, "results": results}
        )
        # After every case, so that an interrupted run is not lost.
        options.out.write_text(json.dumps(report, indent=1) + "\n")
        _print(case, results)
    print(f"\nsaved {options.out}")


if __name__ == "__main__":
    main()
