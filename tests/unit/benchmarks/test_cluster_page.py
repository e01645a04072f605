"""docs/cluster.md has what was measured, and its goals were reached."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.cluster.__main__ import missed
from tests.conftest import REPO

FOUND = REPO / "docs" / "benchmarks" / "cluster.json"


def test_the_page_is_what_the_measurements_give() -> None:
    script = [sys.executable, str(REPO / "scripts" / "render_cluster.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_published_reached_its_goals() -> None:
    assert missed(json.loads(FOUND.read_text())) == []


def test_a_goal_that_is_missed_is_said() -> None:
    found = json.loads(FOUND.read_text())
    found["scaling"]["8_against_1"] = 7.1
    found["queue"]["one_job_at_a_time"]["all"]["p50_ms"] = 5.0
    assert len(missed(found)) == 2
