"""What docs/cluster.md shows as measured reached its goals."""

from __future__ import annotations

import json

from tests.benchmarks.cluster.__main__ import missed
from tests.conftest import REPO

FOUND = REPO / "docs" / "benchmarks" / "cluster.json"


def test_what_is_published_reached_its_goals() -> None:
    assert missed(json.loads(FOUND.read_text())) == []


def test_a_goal_that_is_missed_is_said() -> None:
    found = json.loads(FOUND.read_text())
    found["scaling"]["8_against_1"] = 7.1
    found["queue"]["one_job_at_a_time"]["all"]["p50_ms"] = 5.0
    assert len(missed(found)) == 2
