"""Rules, alerts and panels name only what there is."""

from __future__ import annotations

import pytest
from declared_metrics import TARGET_LABELS, label_values, series_names
from expressions import all_expressions, grouping_labels_of, matchers_of, metrics_of, rules

EXPRESSIONS = all_expressions()
SERIES = series_names()
RECORDED = {rule["record"] for rule in rules()}
# A reason of the codec is not one of the domain's errors.
OPEN_LABELS = {("upscaled_codec_failures_total", "reason")}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_is_declared_or_recorded(name: str) -> None:
    named = metrics_of(EXPRESSIONS[name])
    assert named, "no metric was found in the expression"
    assert named <= SERIES.keys() | RECORDED


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_label_is_one_of_the_metric(name: str) -> None:
    expr = EXPRESSIONS[name]
    for matcher in matchers_of(expr):
        if matcher.metric in SERIES:
            assert matcher.label in SERIES[matcher.metric].labels | TARGET_LABELS, matcher
        else:
            assert matcher.label in TARGET_LABELS, matcher
    scraped = [SERIES[metric].labels for metric in metrics_of(expr) if metric in SERIES]
    assert grouping_labels_of(expr) <= TARGET_LABELS.union(*scraped)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_value_is_one_that_the_label_can_have(name: str) -> None:
    allowed = label_values()
    for matcher in matchers_of(EXPRESSIONS[name]):
        if (matcher.metric, matcher.label) in OPEN_LABELS:
            continue
        if matcher.label == "le" and SERIES[matcher.metric].buckets:
            assert set(matcher.values) <= set(SERIES[matcher.metric].buckets)
        elif matcher.label in allowed:
            assert set(matcher.values) <= allowed[matcher.label]


def test_what_an_expression_names_is_found() -> None:
    expr = (
        'sum by (job, le) (rate(a_bucket{code=~"OK|INTERNAL",le="5.0",job=~".*x.*"}[5m] offset 1h))'
        " / on (job) group_left (version) level:b:rate5m > 1e3 and c unless absent(d)"
    )
    assert metrics_of(expr) == {"a_bucket", "level:b:rate5m", "c", "d"}
    assert grouping_labels_of(expr) == {"job", "le", "version"}
    assert {(each.label, each.values) for each in matchers_of(expr)} == {
        ("code", ("OK", "INTERNAL")),
        ("le", ("5.0",)),
        ("job", ()),
    }
