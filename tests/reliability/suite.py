"""Runs the tests of the ordinary suite that docs/reliability.md names, and writes down how many passed.

python -m tests.reliability.suite [-n 2] [--out docs/reliability/suite.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.conftest import REPO
from tests.reliability.record import where_and_when
from tests.reliability.rows import ROWS


def named() -> list[str]:
    return sorted({each for row in ROWS for each in row.tests})


def outcomes(report: Path) -> dict[str, Counter[str]]:
    """Of every named file or test, from pytest's report in JUnit's form."""
    found: dict[str, Counter[str]] = {each: Counter() for each in named()}
    for case in ET.parse(report).iter("testcase"):
        path = case.get("classname", "").replace(".", "/").removeprefix("tests/") + ".py"
        test = f"{path}::{case.get('name', '').partition('[')[0]}"
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        for each in {path, test} & found.keys():
            found[each][outcome] += 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-n", type=int, default=2, help="tests at once")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "reliability" / "suite.json")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        tests = [f"tests/{each}" for each in named()]
        command = ["-m", "pytest", "-q", "-n", str(options.n), "--dist", "loadfile", f"--junitxml={report}"]
        done = subprocess.run([sys.executable, *command, *tests], cwd=REPO, check=False)
        if not report.is_file():
            return done.returncode or 1
        found = outcomes(report)
    seconds = round(time.monotonic() - began, 1)
    record = {"tests": {name: dict(count) for name, count in found.items()}, "seconds": seconds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**record, **where_and_when()}, indent=1) + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
