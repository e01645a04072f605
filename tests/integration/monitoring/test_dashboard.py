"""The Grafana dashboard: complete, and with queries that find something."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from expressions import DASHBOARD, panel_queries, panels, rules
from tests.prometheus_server import Prometheus
from watching_prometheus import watching_prometheus


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert len(panel["targets"]) == 1 or all(each["legendFormat"] != "__auto" for each in panel["targets"])


def test_panels_have_numbers_and_places_of_their_own() -> None:
    everything = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [cell for panel in everything for cell in _cells(panel["gridPos"])]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24


def _cells(at: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(at["x"], at["x"] + at["w"]):
        for y in range(at["y"], at["y"] + at["h"]):
            yield x, y


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip("needs prometheus and promtool")
    with watching_prometheus(tmp_path_factory.mktemp("prometheus")) as prometheus:
        _wait_for_the_rules(prometheus)
        yield prometheus


def _wait_for_the_rules(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 60
    missing = {rule["record"] for rule in rules()}
    while missing := {name for name in missing if not prometheus.series(name)}:
        assert time.monotonic() < deadline, f"rules record nothing: {missing}"
        time.sleep(0.5)


@pytest.mark.parametrize("name", panel_queries())
def test_each_query_finds_numbers_in_a_real_prometheus(prometheus: Prometheus, name: str) -> None:
    found = prometheus.series(panel_queries()[name])
    assert found, "the query finds nothing, though every metric is there"
    assert any(math.isfinite(float(series["value"][1])) for series in found)


def test_no_rule_fails_in_a_real_prometheus(prometheus: Prometheus) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
