"""`deploy/grafana/upscaled.json`: the Grafana dashboard, from `dashboard_panels.py`.

    python scripts/render_dashboard.py [--check]

Change panels there, not in Grafana: tests check that the file is what this gives, that every query parses and
names only metrics and labels that there are, and that it finds something in a real Prometheus.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dashboard_panels import ROWS, Panel

REPO = Path(__file__).resolve().parents[1]
DASHBOARD = REPO / "deploy" / "grafana" / "upscaled.json"

# Grafana's grid has 24 columns; what a panel takes of them decides how many stand side by side.
_COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """As Grafana imports and provisions it."""
    return {
        "uid": "upscaled",
        "title": "upscaled",
        "description": "Calls, queues, devices, jobs and callers. Needs the rules of deploy/prometheus.",
        "tags": ["upscaled"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_placed()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "includeAll": False,
        "multi": False,
        "options": [],
        "regex": "",
    }
    for name, label, query in (
        ("job", "Job", "label_values(upscaled_build_info, job)"),
        ("instance", "Server", 'label_values(upscaled_build_info{job=~"$job"}, instance)'),
    ):
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": name},
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "allValue": ".*",
            "includeAll": True,
            "multi": True,
            "hide": 0,
            "options": [],
            "refresh": 2,
            "regex": "",
            "sort": 1,
        }


def _placed() -> Iterator[dict[str, Any]]:
    """Rows under each other, and in each the panels from left to right."""
    number, y = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        y, x = y + 1, 0
        height = 4 if row.panels[0].kind == "stat" else 8
        for panel in row.panels:
            number += 1
            if x + panel.width > _COLUMNS:
                x, y = 0, y + height
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += height


def _panel(panel: Panel, number: int, at: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": at,
        "targets": [
            {
                "refId": chr(ord("A") + which),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.shown or "__auto",
                "range": panel.kind != "stat",
                "instant": panel.kind == "stat",
            }
            for which, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _STAT_OPTIONS if panel.kind == "stat" else _SERIES_OPTIONS,
    }


_STAT_OPTIONS: dict[str, Any] = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "value",
    "graphMode": "none",
    "justifyMode": "auto",
    "orientation": "auto",
    "textMode": "auto",
}
_SERIES_OPTIONS: dict[str, Any] = {
    "legend": {
        "calcs": ["lastNotNull", "max"],
        "displayMode": "table",
        "placement": "bottom",
        "showLegend": True,
    },
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": _UNITS.get(panel.unit, panel.unit), "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        marked = panel.bad_above is not None or panel.bad_below is not None
        field["min"] = 0
        field["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 25 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if marked else "off"},
        }
    return field


# Grafana has no unit of these; with its prefix it writes thousands as k and millions as M.
_UNITS = {"pixels": "si:px", "pixels/s": "si:px/s"}


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"color": "red" if panel.bad_below is not None else "green", "value": None}
    ]
    if panel.bad_below is not None:
        steps.append({"color": "green", "value": panel.bad_below})
    if panel.bad_above is not None:
        steps.append({"color": "red", "value": panel.bad_above})
    return {"mode": "absolute", "steps": steps}


def rendered() -> str:
    """What the file should hold."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args()
    text = rendered()
    stale = not DASHBOARD.is_file() or DASHBOARD.read_text() != text
    if stale and not options.check:
        DASHBOARD.write_text(text)
    if stale:
        said = "is not what scripts/render_dashboard.py gives" if options.check else "written"
        print(f"{DASHBOARD.relative_to(REPO)} {said}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
