"""docs/reliability.md says what the records say, of every threat and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.reliability import report
from tests.reliability.record import Record, end
from tests.reliability.rows import ROWS
from tests.reliability.suite import outcomes

FUZZ = {
    "seconds_each": 600.0,
    "targets": [{"target": "urls", "executions": 12_345, "coverage": None, "findings": ["one"]}],
}


def record(folder: Path, **changes: Any) -> Path:
    """A record as a scenario writes it."""
    found = Record(
        scenario="leaving", row="Client leaves", what="Callers left.", short=False, tried=3, held=3
    )
    for name, value in changes.items():
        setattr(found, name, value)
    end(found, folder / "leaving.json")
    return folder / "leaving.json"


def line_of(folder: Path, threat: str) -> list[str]:
    """The cells of a row."""
    page = report.rendered(report.Evidence.read(folder))
    (line,) = [each for each in page.splitlines() if each.startswith(("| " + threat, f"| [{threat}]"))]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_page_and_its_charts_are_what_the_records_give() -> None:
    stale = [path.name for path, text in report.outputs().items() if path.read_text() != text]
    assert not stale, "run python -m tests.reliability.report"


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    assert line_of(tmp_path, "Bombs")[2] == "not run"


def test_a_record_tells_how_often_how_long_and_what_held(tmp_path: Path) -> None:
    record(tmp_path, seconds=90.0, figures={"slowest_seconds": 0.25, "rss_growth_bytes": 3 << 20})
    threat, _, tried, held, took, _ = line_of(tmp_path, "Client leaves")
    assert (threat, tried, held, took) == ("[Client leaves](#client-leaves)", "3", "3", "90 s")
    page = report.rendered(report.Evidence.read(tmp_path))
    assert "- slowest 0.25 s; RSS growth 3.0 MiB." in page


def test_what_did_not_hold_is_said_in_the_table_and_with_its_reason(tmp_path: Path) -> None:
    record(tmp_path, held=2, not_held=["one was worked on for 3 s"])
    assert line_of(tmp_path, "Client leaves")[3] == "2 **not held**"
    page = report.rendered(report.Evidence.read(tmp_path))
    assert "Not held: Client leaves." in page
    assert "- **Not held**: one was worked on for 3 s" in page


def test_a_record_of_no_row_is_refused(tmp_path: Path) -> None:
    record(tmp_path, row="Client leaving")
    with pytest.raises(ValueError, match="no row is called 'Client leaving'"):
        report.Evidence.read(tmp_path)


def test_tests_of_the_ordinary_suite_count_only_where_all_passed(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.threat == "Numbers")
    (test,) = row.tests
    for counts, cell in (({"passed": 10}, "by tests"), ({"passed": 9, "failed": 1}, "not run")):
        suite = {"tests": {test: counts}, "seconds": 1.0, "when": "2026-01-01", "commit": "abc"}
        (tmp_path / "suite.json").write_text(json.dumps(suite))
        assert line_of(tmp_path, "Numbers")[2] == cell


def test_findings_of_fuzzing_are_counted(tmp_path: Path) -> None:
    (tmp_path / "fuzz.json").write_text(json.dumps(FUZZ))
    page = report.rendered(report.Evidence.read(tmp_path))
    assert "| urls | 12,345 |  | 1 |" in page


def test_every_series_is_drawn_and_so_is_one_that_nobody_knows(tmp_path: Path) -> None:
    series = {"server_rss_bytes": [(0.0, 1e8), (60.0, 2e8)], "odd_things": [(0.0, 1.0), (60.0, 0.0)]}
    record(tmp_path, series=series)
    (drawn,) = report.charts(report.Evidence.read(tmp_path)).values()
    paths = ET.fromstring(drawn).findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) == len(series)
    assert "odd things" in drawn


def test_a_point_of_a_series_is_one_line_of_the_record(tmp_path: Path) -> None:
    path = record(tmp_path, series={"queue": [(0.5, 1.0), (1.5, 2e-05)]})
    assert "[0.5, 1.0]" in path.read_text()
    assert json.loads(path.read_text())["series"] == {"queue": [[0.5, 1.0], [1.5, 2e-05]]}


def test_tests_are_counted_by_file_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(
        '<testsuites><testsuite name="pytest">'
        '<testcase classname="tests.e2e.test_service" name="test_a_deadline_ends_the_work"/>'
        '<testcase classname="tests.e2e.test_keys" name="test_one[a]"/>'
        '<testcase classname="tests.e2e.test_keys" name="test_one[b]"><failure/></testcase>'
        '<testcase classname="tests.e2e.test_keys" name="test_two"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    found = outcomes(path)
    assert found["e2e/test_service.py::test_a_deadline_ends_the_work"] == {"passed": 1}
    assert found["e2e/test_keys.py"] == {"passed": 1, "failed": 1, "skipped": 1}
