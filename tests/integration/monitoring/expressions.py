"""The PromQL of rules, alerts and panels, and what it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from tests.conftest import REPO

PROMETHEUS = REPO / "deploy" / "prometheus"
DASHBOARD = REPO / "deploy" / "grafana" / "upscaled.json"
RULES, ALERTS = PROMETHEUS / "rules.yaml", PROMETHEUS / "alerts.yaml"

# What Grafana puts in place of its variables.
_GRAFANA = {"$job": ".*", "$instance": ".*", "$__rate_interval": "5m"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})


@dataclass(frozen=True, slots=True)
class Matcher:
    """Of a selector of `metric`: `values` are the alternatives that it names, none for a real pattern."""

    metric: str
    label: str
    values: tuple[str, ...]


def rules() -> list[dict[str, Any]]:
    return _rules(RULES)


def alerts() -> list[dict[str, Any]]:
    return _rules(ALERTS)


def _rules(path: Any) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Without the headings of rows."""
    return [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]


def panel_queries() -> dict[str, str]:
    """By panel and legend, as Prometheus gets them."""
    return {
        f"{panel['title']}: {target['refId']}": _filled(target["expr"])
        for panel in panels()
        for target in panel["targets"]
    }


def all_expressions() -> dict[str, str]:
    """By what they are for."""
    recorded = {f"rule {rule['record']}": rule["expr"] for rule in rules()}
    alerting = {f"alert {number}: {rule['alert']}": rule["expr"] for number, rule in enumerate(alerts())}
    shown = {f"panel {name}": expr for name, expr in panel_queries().items()}
    return recorded | alerting | shown


def _filled(expr: str) -> str:
    for name, value in _GRAFANA.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable of Grafana's that is not known here: {expr}"
    return expr


def metrics_of(expr: str) -> set[str]:
    """Names of series, scraped and recorded."""
    bare = _GROUPING.sub("", re.sub(r"\{[^}]*\}", "", _STRING.sub('""', expr)))
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


def grouping_labels_of(expr: str) -> set[str]:
    """Labels of `by`, `on` and the like."""
    listed = (
        label.strip() for names in _GROUPING.findall(_STRING.sub('""', expr)) for label in names.split(",")
    )
    return {label for label in listed if label}


def matchers_of(expr: str) -> Iterator[Matcher]:
    for metric, matchers in _SELECTOR.findall(expr):
        for label, operator, value in _MATCHER.findall(matchers):
            plain = operator in ("=", "!=") or re.fullmatch(r"[\w|]+", value)
            yield Matcher(metric, label, tuple(value.split("|")) if plain else ())
