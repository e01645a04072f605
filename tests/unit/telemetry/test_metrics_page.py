"""The literals behind docs/metrics.md keep its promises."""

from __future__ import annotations

import json
import runpy

import pytest
from tests.conftest import REPO

RENDER = runpy.run_path(str(REPO / "scripts" / "render_metrics.py"))


def test_what_was_measured_keeps_the_promise_of_a_cheap_scrape() -> None:
    report = json.loads(RENDER["MEASURED"].read_text())["scrape"]
    assert report["callers"] >= 1000
    assert report["cpu_ms"] < report["goal_ms"] == 20
    assert report["idle_wall_ms"]["median"] < 20


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks for metrics"):
        RENDER["rendered"]("nothing to see")


def test_names_have_the_prefix_and_base_units() -> None:
    for each in RENDER["described"]():
        assert each.name.startswith("upscaled_")
        assert not {"milliseconds", "ms", "kilobytes", "megabytes", "percent"} & set(each.name.split("_"))
        assert each.says.endswith(".")
