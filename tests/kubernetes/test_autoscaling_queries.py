"""What the autoscalers ask Prometheus for, computed by Prometheus' own engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO
from tests.kubernetes.rendering import Choice, Object, named

HPA = REPO / "deploy" / "kubernetes" / "components" / "hpa"

# Two pods of ours with work of both classes, and one of somebody else's namespace.
SERIES = {
    'upscaled_queue_device_seconds{namespace="upscaled",pod="a",class="interactive"}': 10,
    'upscaled_queue_device_seconds{namespace="upscaled",pod="a",class="batch"}': 40,
    'upscaled_queue_device_seconds{namespace="upscaled",pod="b",class="interactive"}': 5,
    'upscaled_queue_device_seconds{namespace="upscaled",pod="b",class="batch"}': 0,
    'upscaled_queue_device_seconds{namespace="other",pod="c",class="batch"}': 1000,
}


def _computed(query: str, expected: dict[str, float], folder: Path) -> None:
    """Fails with promtool's words unless the query has these samples, by labels as text."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of the package prometheus")
    case = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": f"{value}x3"} for name, value in SERIES.items()],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "2m",
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in expected.items()
                        ],
                    }
                ],
            }
        ],
    }
    path = folder / "case.yaml"
    path.write_text(json.dumps(case))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rule() -> dict[str, Any]:
    (found,) = yaml.safe_load((HPA / "prometheus-adapter.yaml").read_text())["rules"]
    return dict(found)


def _metric(autoscaler: Object) -> str:
    (metric,) = autoscaler["spec"]["metrics"]
    return str(metric["pods"]["metric"]["name"])


def test_the_adapter_gives_the_autoscalers_metric_for_each_pod(
    rule: dict[str, Any], scaled: list[Object], tmp_path: Path
) -> None:
    name = _metric(named(scaled, "HorizontalPodAutoscaler", "upscaled"))
    assert rule["name"]["as"] == name
    series = str(rule["seriesQuery"]).partition("{")[0]
    assert re.fullmatch(rule["name"]["matches"], series)
    # As the adapter fills it in when it is asked about pods.
    query = (
        str(rule["metricsQuery"])
        .replace("<<.Series>>", series)
        .replace("<<.LabelMatchers>>", 'namespace="upscaled",pod=~"a|b"')
        .replace("<<.GroupBy>>", "pod")
    )
    _computed(query, {'{pod="a"}': 50, '{pod="b"}': 5}, tmp_path)


def test_the_adapter_finds_the_series_and_the_objects_that_they_belong_to(
    rule: dict[str, Any], tmp_path: Path
) -> None:
    _computed(f"count({rule['seriesQuery']})", {"{}": len(SERIES)}, tmp_path)
    assert rule["resources"]["overrides"] == {
        "namespace": {"resource": "namespace"},
        "pod": {"resource": "pod"},
    }


def test_keda_gets_the_work_of_all_replicas_of_its_own_namespace(
    installations: dict[Choice, list[Object]], tmp_path: Path
) -> None:
    scaled = named(installations[Choice("cpu", ("calls-only", "keda"))], "ScaledObject", "upscaled")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metricType"] == "AverageValue"
    _computed(trigger["metadata"]["query"], {"{}": 55}, tmp_path)


def test_both_autoscalers_scale_the_server_alike(installations: dict[Choice, list[Object]]) -> None:
    hpa = named(installations[Choice("cpu", ("calls-only", "hpa"))], "HorizontalPodAutoscaler", "upscaled")[
        "spec"
    ]
    keda = named(installations[Choice("cpu", ("calls-only", "keda"))], "ScaledObject", "upscaled")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "upscaled"}
    assert hpa["scaleTargetRef"] == keda["scaleTargetRef"] == target
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (metric,) = hpa["metrics"]
    assert metric["pods"]["target"] == {
        "type": "AverageValue",
        "averageValue": keda["triggers"][0]["metadata"]["threshold"],
    }
