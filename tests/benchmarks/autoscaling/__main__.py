"""Simulates the days of `scenarios.py`; the same code gives the same file, to the last digit.

    python -m tests.benchmarks.autoscaling [--out docs/benchmarks/autoscaling.json] [--check]

The speed of a device is read from `docs/benchmarks/peers.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.autoscaling.scenarios import MAIN, TUNED, scenarios
from tests.benchmarks.autoscaling.simulate import BIN_SECONDS, Scenario, Simulation

MODEL, WIDTH, HEIGHT = "real-esrgan-animevideo-v3", 448, 640
_PEERS = Path("docs/benchmarks/peers.json")


def measured_megapixels_per_second() -> float:
    """Of input, end to end, on the machine of the benchmark."""
    for case in json.loads(_PEERS.read_text())["cases"]:
        if (case["model"], case["width"], case["height"]) == (MODEL, WIDTH, HEIGHT):
            return round(
                WIDTH * HEIGHT / 1e6 / statistics.median(case["results"]["end_to_end"]["seconds"]), 3
            )
    raise SystemExit(f"{_PEERS} has no case of {MODEL}, {WIDTH}x{HEIGHT}")


def describe(scenario: Scenario) -> dict[str, Any]:
    """What a reader needs to know of it."""
    pool = scenario.pool
    return {
        "scaler": dataclasses.asdict(scenario.scaler) if scenario.scaler else None,
        "replicas": None if scenario.scaler else scenario.replicas,
        "max_open_runs": pool.max_open_runs,
        "max_waiting_runs": pool.max_waiting_runs,
        "max_pending_seconds": pool.max_pending_seconds,
        "max_calls": scenario.max_calls,
        "max_retries": scenario.retries.max_retries,
    }


def simulated(megapixels_per_second: float) -> dict[str, Any]:
    days = scenarios(megapixels_per_second)
    main = days[MAIN]
    found: dict[str, Any] = {
        "model": MODEL,
        "megapixels_per_second": megapixels_per_second,
        "seed": main.seed,
        "day": dataclasses.asdict(main.day),
        "mix": dataclasses.asdict(main.mix),
        "bin_seconds": BIN_SECONDS,
        "scenarios": {},
        "series": {},
    }
    for name, scenario in days.items():
        result = Simulation(scenario).run()
        found["scenarios"][name] = {"settings": describe(scenario), "summary": result["summary"]}
        print(name, json.dumps(result["summary"]), flush=True)
        if name in (MAIN, TUNED):
            found["series"][name] = result["series"]
    return found


def written(found: dict[str, Any]) -> str:
    """JSON with one line for each list, so that the file can be read and compared."""
    text = json.dumps(found, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/autoscaling.json"))
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file would change")
    options = parser.parse_args()
    text = written(simulated(measured_megapixels_per_second()))
    if options.check:
        same = options.out.is_file() and options.out.read_text() == text
        print(f"{options.out} is {'what' if same else 'not what'} the simulation gives")
        return 0 if same else 1
    options.out.write_text(text)
    print(f"saved {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
