"""What is written of a run: one line for people, one JSON record."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

_SHOWN_FINDINGS = 20


@dataclass(slots=True)
class Found:
    """`executions`: inputs tried. `findings`: what must not happen, each with the input's digest or file.
    `coverage`: how many different things were reached, in `coverage_unit`, where they can be counted."""

    target: str
    executions: int = 0
    seconds: float = 0.0
    coverage: int | None = None
    coverage_unit: str = "edges"
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        covered = f", {self.coverage} {self.coverage_unit}" if self.coverage is not None else ""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"{self.target}: {self.executions} executions in {self.seconds:.0f} s ({rate:.0f}/s){covered}, "
            f"{len(self.findings)} findings" + (f"; {outcomes}" if outcomes else "")
        )

    def note(self, finding: str) -> None:
        self.findings.append(finding)
        if len(self.findings) <= _SHOWN_FINDINGS:
            print(f"  {self.target}: {finding}", flush=True)


def write(path: Path, found: list[Found], *, seed: int, seconds: float) -> None:
    """All targets of a run. `seconds`: what each was given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"seed": seed, "seconds_each": seconds, "targets": [_fields(each) for each in found]}
    path.write_text(json.dumps(record, indent=1) + "\n")


def _fields(found: Found) -> dict[str, object]:
    # `asdict` cannot copy a Counter.
    return {each.name: getattr(found, each.name) for each in fields(found)}
