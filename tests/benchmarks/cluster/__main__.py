"""What several servers get done together, and what sharing costs.

    python -m tests.benchmarks.cluster [--part NAME …] [--short] [--out docs/benchmarks/cluster.json]

All processes share this machine, so devices are simulated: each takes a fixed time for an image, and no
processor time. Goals: two servers do 1.9 times as much as one, eight 7.2 times, and a job waits for the queue
for less than 5 ms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.cluster import feed, queue, scaling
from tests.benchmarks.contest.machine import describe

_GOALS = {2: 1.9, 8: 7.2}
_QUEUE_GOAL_MS = 5.0
_DEVICE_SECONDS = 2.0
_JOBS_PER_REPLICA = 25


def _queue(short: bool) -> dict[str, Any]:
    return queue.measure(200 if short else 2000)


def _feed(short: bool) -> dict[str, Any]:
    return feed.measure(2000, 2000) if short else feed.measure(20_000, 50_000)


def _scaling(short: bool) -> dict[str, Any]:
    jobs = 10 if short else _JOBS_PER_REPLICA
    found: dict[str, Any] = {"device_seconds_per_job": _DEVICE_SECONDS}
    for replicas in (1, 2, 8):
        found[f"{replicas}_replicas"] = scaling.measure(replicas, _DEVICE_SECONDS, jobs * replicas)
        print(json.dumps(found[f"{replicas}_replicas"]), flush=True)
    one = found["1_replicas"]["jobs_per_second"]
    for replicas in _GOALS:
        found[f"{replicas}_against_1"] = round(found[f"{replicas}_replicas"]["jobs_per_second"] / one, 3)
    return found


_PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {"queue": _queue, "feed": _feed, "scaling": _scaling}


def missed(found: dict[str, Any]) -> list[str]:
    """The goals that were not reached."""
    wrong = []
    for replicas, goal in _GOALS.items():
        if (ratio := found.get("scaling", {}).get(f"{replicas}_against_1")) is not None and ratio < goal:
            wrong.append(f"{replicas} servers did {ratio:g} times as much as one; {goal:g} is the goal")
    if "queue" in found:
        waited = found["queue"]["one_job_at_a_time"]["all"]["p50_ms"]
        if waited >= _QUEUE_GOAL_MS:
            wrong.append(
                f"a job waited {waited:g} ms for the queue; less than {_QUEUE_GOAL_MS:g} is the goal"
            )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", action="append", choices=_PARTS, default=[])
    parser.add_argument("--short", action="store_true", help="few samples; proves only that it runs")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/cluster.json"))
    options = parser.parse_args()
    found: dict[str, Any] = (
        json.loads(options.out.read_text()) if options.part and options.out.exists() else {}
    )
    for name in options.part or _PARTS:
        print(f"{name} …", flush=True)
        found[name] = {**_PARTS[name](options.short), "machine": describe()}
        print(json.dumps(found[name], indent=1), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"saved {options.out}")
    for each in (wrong := missed(found)):
        print(f"MISSED: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
