"""The engine against its peers, in one run, on the same images and weights.

    python -m tests.benchmarks.peers [--short] [--cases TEXT,TEXT] [--add] [--budget-minutes N] [--out FILE]

Every entrant has a process of its own, so that its peak memory is its own; all of them are alive at once and
take turns, so that a slow minute of the machine hits all alike; the engine and end to end take several in
each round, as their ratio is near one. The first round of each case is a warm-up and is dropped. Running out
of memory or time is a result, and recorded.

A full run takes about three hours on two cores. It can be made in parts: with `--add` the cases
that the file already holds are left out and the others added to it, if the machine and the versions are the
same. Every case says at which commit it was run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contest import machine
from tests.benchmarks.contest.accuracy import compare
from tests.benchmarks.contest.arithmetic import matrix_flops, operations
from tests.benchmarks.contest.cases import FULL, SHORT, Case, expected_minutes, picture, source
from tests.benchmarks.contest.entrants import ENTRANTS, STRIPS, TRUTH
from tests.benchmarks.contest.process import EntrantProcess
from tests.benchmarks.contest.record import Record, moment
from tests.benchmarks.contest.turns import CLOSE, ENOUGH, turns
from upscaled_server.engine.machine import usable_memory

# Measured rounds of a case: as many as fit into the time, within these bounds.
MIN_ROUNDS, MAX_ROUNDS = 3, 7
# How long a case waits for what the one before left in the load average, which the record has.
_SETTLE_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """`seconds` for the rounds of a case, and `more_seconds` for those that are to run more often than fits;
    what each entrant may use; `upscale_seconds` for one image."""

    seconds: float
    more_seconds: float
    limit_bytes: int
    upscale_seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a case: results by entrant, who they were `compared_with`, and how many operations a second the
    machine's cores do in a product of matrices, once in each round."""

    results: dict[str, Any]
    compared_with: str
    matrix_flops: list[float]


def run_case(case: Case, names: list[str], bounds: Bounds, log: Path) -> Measured:
    """All entrants on one model and size."""
    with tempfile.TemporaryDirectory(prefix="upscaled-contest-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        np.save(folder / "image.npy", picture(case))
        errors = stack.enter_context(log.open("ab"))

        def start(name: str) -> EntrantProcess:
            image = folder / "image.npy"
            limit = bounds.upscale_seconds
            return stack.enter_context(
                EntrantProcess(name, case, image, bounds.limit_bytes, errors, limit_seconds=limit)
            )

        entrants = {name: start(name) for name in names}
        warm_up = {name: entrant.run(warm_up=True) for name, entrant in entrants.items()}
        one = sum(warm_up[name] for name in turns(names, warm_up, 0))
        rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(bounds.seconds / max(one, 1e-3))))
        matrix_flops()  # the first one starts threads
        rates = []
        for number in range(rounds):
            rates.append(matrix_flops())
            for name in turns(names, warm_up, number):
                entrants[name].run()
        _run_more(entrants, warm_up, bounds.more_seconds)
        reference = entrants.get(TRUTH)
        if (reference is None or not reference.runs) and any(each.runs for each in entrants.values()):
            reference = start(STRIPS)
            reference.run(warm_up=True)
        compared_with = _measure_accuracy(entrants.values(), reference, folder)
        results = {name: asdict(entrant.outcome) for name, entrant in entrants.items()}
        return Measured(results, compared_with, rates)


def _run_more(entrants: Mapping[str, EntrantProcess], warm_up: Mapping[str, float], seconds: float) -> None:
    """More rounds of those whose ratio is near one, until there are enough of them."""
    close = [name for name in entrants if name in CLOSE and entrants[name].runs]
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until and any(len(entrants[name].outcome.seconds) < ENOUGH for name in close):
        for name in turns(close, warm_up, number):
            entrants[name].run()
        number += 1


def _measure_accuracy(
    entrants: Iterable[EntrantProcess], reference: EntrantProcess | None, folder: Path
) -> str:
    """The name of the reference; empty where there is none."""
    if reference is None or not reference.save(folder / "truth.npy"):
        return ""
    pixels = np.load(folder / "truth.npy", mmap_mode="r")
    for entrant in entrants:
        path = folder / f"{entrant.name}.npy"
        if entrant.save(path):
            entrant.outcome.accuracy = compare(np.load(path, mmap_mode="r"), pixels)
            path.unlink()
    return reference.name


def _print(results: dict[str, Any]) -> None:
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
    parser.add_argument("--cases", default="", help="only cases whose model and size hold one of these texts")
    parser.add_argument("--entrants", default=",".join(ENTRANTS), help="who takes part, with commas")
    parser.add_argument("--seconds", type=float, default=0, help="time for the rounds of a case")
    parser.add_argument("--upscale-seconds", type=float, default=600, help="limit for one image")
    parser.add_argument("--memory-gb", type=float, default=0, help="limit for each entrant's process")
    parser.add_argument("--add", action="store_true", help="keep the cases of the file, add what is missing")
    parser.add_argument(
        "--budget-minutes",
        type=float,
        default=0,
        help="begin no case that is expected to end later than this",
    )
    parser.add_argument("--list", action="store_true", help="only say which cases would run, and how long")
    parser.add_argument("--out", type=Path, default=Path("bench-results/peers.json"))
    options = parser.parse_args()
    texts = options.cases.split(",")
    cases = [case for case in (SHORT if options.short else FULL) if any(text in str(case) for text in texts)]
    if not cases:
        parser.error(f"--cases {options.cases} names none; --list says which there are, and their sizes")
    seconds = options.seconds or (20 if options.short else 240)
    bounds = Bounds(
        seconds,
        0 if options.short else seconds,
        int(options.memory_gb * 1e9) or int(usable_memory() * 0.8),
        options.upscale_seconds,
    )
    about = machine.describe()
    head = {"machine": about, "picture": source().name, "limit_bytes": bounds.limit_bytes}
    record = Record(options.out, {**head, "short": options.short})
    if options.add:
        record.take_up()
    cases = [case for case in cases if not record.has(case)]
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for case in cases:
        minutes = expected_minutes(case, bounds.seconds)
        print(f"\n{case}, {case.width}x{case.height}, about {minutes:.0f} min", flush=True)
        left = options.budget_minutes - (time.monotonic() - began) / 60
        if options.list:
            continue
        if options.budget_minutes and minutes > left:
            print("  left for later: it would not end in time")
            continue
        machine.settle(0 if options.short else _SETTLE_SECONDS)
        when = moment()
        found = run_case(case, options.entrants.split(","), bounds, options.out.with_suffix(".log"))
        rates = {
            "operations": operations(case.model, case.width, case.height),
            "matrix_flops": found.matrix_flops,
        }
        record.add(case, found.results, **when, **rates, reference=found.compared_with)
        _print(found.results)


if __name__ == "__main__":
    main()
