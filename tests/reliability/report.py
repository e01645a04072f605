"""`docs/reliability.md` and its charts, from the records in `docs/reliability`.

    python -m tests.reliability.report [--check]

Every JSON file there is the record of a scenario in full (`tests/reliability/record.py`), but for
`suite.json` (`tests/reliability/suite.py`) and `fuzz.json` (`tests/fuzz`). With `--check` nothing is written,
and a page that is not what the records give is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPO
from tests.reliability.chart import chart
from tests.reliability.rows import ROWS, Row

FOLDER = REPO / "docs" / "reliability"
PAGE = REPO / "docs" / "reliability.md"
_OTHERS = ("suite", "fuzz")

_INTRODUCTION = """\
# Reliability

What the server was made to bear, how often, for how long, and what held. Each row is a threat. A scenario is
a program that starts a real server, does to it what the row says, and ends in a record; the records of full
runs are in [reliability/](reliability). `make chaos`, `make soak` and `make fuzz` run them. Tests of the
ordinary suite that try the same are named with how many of them passed. What was not run says so.
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was measured. `records`: by the name of the file; `suite` and `fuzz`: None where they were not
    run."""

    records: Mapping[str, dict[str, Any]]
    suite: dict[str, Any] | None
    fuzz: dict[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """Raises `ValueError` for a record of a row that the page does not have."""
        found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
        suite, fuzz = (found.pop(name, None) for name in _OTHERS)
        threats = {row.threat for row in ROWS}
        for name, record in found.items():
            if record["row"] not in threats:
                raise ValueError(f"{name}.json: no row is called {record['row']!r}")
        return cls(found, suite, fuzz)

    def of(self, row: Row) -> dict[str, dict[str, Any]]:
        return {name: record for name, record in self.records.items() if record["row"] == row.threat}

    def passed(self, test: str) -> int | None:
        """How often; None where it was not run, or something of it failed or was skipped."""
        counts = {} if self.suite is None else self.suite["tests"].get(test, {})
        return counts["passed"] if counts.keys() == {"passed"} else None

    def is_tested(self, row: Row) -> bool:
        """Whether the ordinary suite tries it, and all of that passed."""
        return bool(row.tests) and all(self.passed(each) for each in row.tests)


def rendered(evidence: Evidence) -> str:
    parts = [_INTRODUCTION, _summary(evidence), _table(evidence)]
    parts += [_details(row, evidence) for row in ROWS if evidence.of(row)]
    parts += [_fuzzing(evidence.fuzz), _suite(evidence.suite)]
    return "\n".join(parts)


def charts(evidence: Evidence) -> dict[str, str]:
    """By the name of the record."""
    return {name: chart(record["series"]) for name, record in evidence.records.items() if record["series"]}


def _summary(evidence: Evidence) -> str:
    tried = [row for row in ROWS if evidence.of(row)]
    held = [row for row in tried if all(_held(record) for record in evidence.of(row).values())]
    untried = [row for row in ROWS if row not in tried]
    by_tests = [row.threat for row in untried if evidence.is_tested(row)]
    not_run = [row.threat for row in untried if not evidence.is_tested(row)]
    not_held = [row.threat for row in tried if row not in held]
    lines = [f"Of {len(ROWS)} threats, {len(tried)} were tried by scenarios, and {len(held)} of these held."]
    for words, threats in (
        ("Not held", not_held),
        ("Tried by the ordinary suite alone", by_tests),
        ("Not run", not_run),
    ):
        if threats:
            lines.append(f"{words}: {', '.join(threats)}.")
    return " ".join(lines) + "\n"


def _held(record: dict[str, Any]) -> bool:
    return record["tried"] == record["held"] > 0 and not record["not_held"]


def _table(evidence: Evidence) -> str:
    lines = [
        "| threat | what must hold | tried | held | took | records and tests |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    for row in ROWS:
        records = evidence.of(row)
        tried, held, took = _cells(list(records.values()), tested=evidence.is_tested(row))
        tests = [_test(each, evidence.passed(each)) for each in row.tests]
        sources = "<br>".join([*(f"[{name}](reliability/{name}.json)" for name in records), *tests])
        threat = f"[{row.threat}](#{_anchor(row.threat)})" if records else row.threat
        lines.append(f"| {threat} | {row.holds} | {tried} | {held} | {took} | {sources} |")
    return "\n".join(lines) + "\n"


def _cells(records: Sequence[dict[str, Any]], *, tested: bool) -> tuple[str, str, str]:
    """How often it was tried, how often it held, how long that took."""
    if not records:
        return "by tests" if tested else "not run", "", ""
    tried = [f"{each['tried']:,}" + (" (short form)" if each["short"] else "") for each in records]
    held = [f"{each['held']:,}" + ("" if _held(each) else " **not held**") for each in records]
    took = [_time(each["seconds"]) for each in records]
    return "<br>".join(tried), "<br>".join(held), "<br>".join(took)


def _test(name: str, passed: int | None) -> str:
    path, _, test = name.partition("::")
    return f"[{test or path}](../tests/{path}): " + ("not run" if passed is None else f"{passed} passed")


def _details(row: Row, evidence: Evidence) -> str:
    lines = [f"## {row.threat}", ""]
    for name, record in evidence.of(row).items():
        machine, day = record["machine"], record["when"][:10]
        figures = "; ".join(_figure(*each) for each in record["figures"].items())
        lines += [record["what"], ""]
        lines += [f"- **Not held**: {each}" for each in record["not_held"]]
        lines += [f"- {figures}."] if figures else []
        lines += [
            f"- [{name}](reliability/{name}.json): {_time(record['seconds'])} on {machine['cores']} cores of "
            f"{machine['cpu']}, {day}, commit {record['commit']}.",
            "",
        ]
        if record["series"]:
            lines += [f"![{row.threat}, over time](reliability/{name}.svg)", ""]
    return "\n".join(lines)


def _fuzzing(fuzz: dict[str, Any] | None) -> str:
    if fuzz is None:
        return "## Fuzzing\n\nNot run.\n"
    lines = [
        "## Fuzzing",
        "",
        f"Each target was given {_time(fuzz['seconds_each'])}. A finding is an end of the process, an error "
        "that is no refusal, or too much time or memory.",
        "",
        "| target | inputs | reached | findings |",
        "| --- | --: | --: | --: |",
    ]
    for target in fuzz["targets"]:
        reached = "" if target["coverage"] is None else f"{target['coverage']:,} {target['coverage_unit']}"
        count = len(target["findings"])
        lines.append(f"| {target['target']} | {target['executions']:,} | {reached} | {count} |")
    return "\n".join(lines) + "\n"


def _suite(suite: dict[str, Any] | None) -> str:
    if suite is None:
        return "## Tests of the ordinary suite\n\nNot run.\n"
    total = sum(sum(counts.values()) for counts in suite["tests"].values())
    passed = sum(counts.get("passed", 0) for counts in suite["tests"].values())
    return (
        "## Tests of the ordinary suite\n\n"
        f"Of the {total:,} named above {passed:,} passed, in {_time(suite['seconds'])}, "
        f"{suite['when'][:10]}, commit {suite['commit']} ([counts](reliability/suite.json)).\n"
    )


def _figure(name: str, value: float | str) -> str:
    """In the unit that the name has."""
    words = name.split("_")
    unit = next((each for each in ("bytes", "seconds") if each in words), "")
    if isinstance(value, str):
        return f"{' '.join(words)} {value}"
    shown = " ".join("RSS" if each == "rss" else each for each in words if each != unit)
    if unit == "bytes" and abs(value) >= 1 << 20:
        return f"{shown} {value / (1 << 20):,.1f} MiB"
    number = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{shown} {number}" + {"bytes": " bytes", "seconds": " s", "": ""}[unit]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return "".join(each for each in title.lower().replace(" ", "-") if each.isalnum() or each in "-_")


def outputs(folder: Path = FOLDER) -> dict[Path, str]:
    """What every generated file should hold."""
    evidence = Evidence.read(folder)
    drawn = {FOLDER / f"{name}.svg": text for name, text in charts(evidence).items()}
    return {PAGE: rendered(evidence), **drawn}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args()
    expected = outputs()
    stale = [path for path, text in expected.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if not options.check:
            path.write_text(expected[path])
        print(f"{path.relative_to(REPO)} {'is not what the records give' if options.check else 'written'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
