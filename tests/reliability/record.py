"""What is written of a scenario: one line for people, one JSON record for the page."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

RESULTS: Final = Path("bench-results/reliability")


@dataclass(slots=True)
class Record:
    """`row`: the threat, as docs/reliability.md names it. `tried` and `held`: how often. `figures`: numbers
    by a name that ends in its unit. `series`: points of (seconds since the start, value), by name.
    """

    scenario: str
    row: str
    what: str
    short: bool
    tried: int = 0
    held: int = 0
    figures: dict[str, float | int | str] = field(default_factory=dict)
    not_held: list[str] = field(default_factory=list)
    seconds: float = 0.0
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.tried > 0 and self.held == self.tried and not self.not_held

    @property
    def line(self) -> str:
        figures = ", ".join(
            f"{name.replace('_', ' ')} {_shown(value)}" for name, value in self.figures.items()
        )
        return (
            f"{self.scenario}: held {self.held} of {self.tried} in {self.seconds:.0f} s"
            + (f"; {figures}" if figures else "")
            + "".join(f"\n  not held: {each}" for each in self.not_held)
        )


def arguments(scenario: str, description: str) -> argparse.ArgumentParser:
    """What every scenario understands: `--short` and `--out`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="a form of about 20 seconds")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{scenario}.json")
    return parser


def end(record: Record, path: Path) -> int:
    """Writes and prints; what the process exits with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(record), **where_and_when()}, indent=1)
    # A point of a series is one line, not four.
    path.write_text(re.sub(r"\[\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+)\s+\]", r"[\1, \2]", text) + "\n")
    print(record.line, flush=True)
    return 0 if record.ok else 1


def where_and_when() -> dict[str, object]:
    """What goes with every record."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit,
        "machine": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _shown(value: float | int | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)
