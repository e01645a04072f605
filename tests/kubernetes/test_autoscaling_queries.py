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

from tests.benchmarks.autoscaling.scenarios import MANIFESTS, scenarios
from tests.conftest import REPO
from tests.kubernetes.rendering import Choice, Object, named

HPA = REPO / "deploy" / "kubernetes" / "components" / "hpa"

# Two pods of ours with work of both classes, and one of somebody else's namespace. Pod a's device is at work
# for half of the time, pod b's for a tenth.
SERIES = {
    'upscaled_queue_device_seconds{namespace="upscaled",pod="a",class="interactive"}': "10x8",
    'upscaled_queue_device_seconds{namespace="upscaled",pod="a",class="batch"}': "40x8",
    'upscaled_queue_device_seconds{namespace="upscaled",pod="b",class="interactive"}': "5x8",
    'upscaled_queue_device_seconds{namespace="upscaled",pod="b",class="batch"}': "0x8",
    'upscaled_queue_device_seconds{namespace="other",pod="c",class="batch"}': "1000x8",
    # Both pods see the same twelve jobs of the queue that they share, one a little later.
    'upscaled_jobs{namespace="upscaled",pod="a",state="queued"}': "12x8",
    'upscaled_jobs{namespace="upscaled",pod="b",state="queued"}': "11x8",
    'upscaled_jobs{namespace="upscaled",pod="a",state="running"}': "100x8",
    'upscaled_jobs{namespace="other",pod="c",state="queued"}': "1000x8",
    'upscaled_device_busy_seconds_total{namespace="upscaled",pod="a",device="cuda:0"}': "0+7.5x8",
    'upscaled_device_busy_seconds_total{namespace="upscaled",pod="b",device="cuda:0"}': "0+1.5x8",
    'upscaled_device_busy_seconds_total{namespace="other",pod="c",device="cuda:0"}': "0+15x8",
}


def _computed(query: str, expected: dict[str, float], folder: Path) -> None:
    """Fails with promtool's words unless the query has these samples, by labels as text."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of the package prometheus")
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    case = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
                "promql_expr_test": [{"expr": query, "eval_time": "2m", "exp_samples": samples}],
            }
        ],
    }
    path = folder / "case.yaml"
    path.write_text(json.dumps(case))
    command = ["promtool", "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rules() -> dict[str, dict[str, Any]]:
    """The adapter's, by the metric that each makes."""
    found = yaml.safe_load((HPA / "prometheus-adapter.yaml").read_text())["rules"]
    return {rule["name"]["as"]: rule for rule in found}


def _wanted(autoscaler: Object) -> dict[str, float]:
    """The autoscaler's metrics and what each may be for a replica."""
    return {
        metric["pods"]["metric"]["name"]: _number(metric["pods"]["target"]["averageValue"])
        for metric in autoscaler["spec"]["metrics"]
    }


def _number(quantity: str) -> float:
    return float(quantity.removesuffix("m")) / 1000 if quantity.endswith("m") else float(quantity)


def _hpa(installations: dict[Choice, list[Object]]) -> Object:
    return named(installations[Choice("cpu", ("calls-only", "hpa"))], "HorizontalPodAutoscaler", "upscaled")


def _keda(installations: dict[Choice, list[Object]]) -> Object:
    return named(installations[Choice("cpu", ("calls-only", "keda"))], "ScaledObject", "upscaled")


@pytest.mark.parametrize(
    ("metric", "of_pods"),
    [
        ("upscaled_queue_device_seconds", {'{pod="a"}': 50, '{pod="b"}': 5}),
        ("upscaled_device_busy", {'{pod="a"}': 0.5, '{pod="b"}': 0.1}),
    ],
)
def test_the_adapter_gives_the_autoscalers_metrics_for_each_pod(
    rules: dict[str, dict[str, Any]],
    installations: dict[Choice, list[Object]],
    tmp_path: Path,
    metric: str,
    of_pods: dict[str, float],
) -> None:
    assert set(rules) == set(_wanted(_hpa(installations)))
    rule = rules[metric]
    series = str(rule["seriesQuery"]).partition("{")[0]
    assert re.fullmatch(rule["name"]["matches"], series)
    # As the adapter fills it in when it is asked about pods.
    query = (
        str(rule["metricsQuery"])
        .replace("<<.Series>>", series)
        .replace("<<.LabelMatchers>>", 'namespace="upscaled",pod=~"a|b"')
        .replace("<<.GroupBy>>", "pod")
    )
    _computed(query, of_pods, tmp_path)


def test_the_adapter_finds_the_series_and_the_objects_that_they_belong_to(
    rules: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for rule in rules.values():
        series = str(rule["seriesQuery"]).partition("{")[0]
        count = sum(name.startswith(series) for name in SERIES)
        _computed(f"count({rule['seriesQuery']})", {"{}": count}, tmp_path)
        assert rule["resources"]["overrides"] == {
            "namespace": {"resource": "namespace"},
            "pod": {"resource": "pod"},
        }


def test_keda_gets_the_sums_over_all_replicas_of_its_own_namespace(
    installations: dict[Choice, list[Object]], tmp_path: Path
) -> None:
    queue, busy = _keda(installations)["spec"]["triggers"]
    assert queue["metricType"] == busy["metricType"] == "AverageValue"
    _computed(queue["metadata"]["query"], {"{}": 55}, tmp_path)
    _computed(busy["metadata"]["query"], {"{}": 0.6}, tmp_path)


def test_keda_counts_each_job_that_waits_for_all_servers_once(
    installations: dict[Choice, list[Object]], tmp_path: Path
) -> None:
    *others, jobs = named(installations[Choice("cluster")], "ScaledObject", "upscaled")["spec"]["triggers"]
    assert others == _keda(installations)["spec"]["triggers"]
    assert jobs["metricType"] == "AverageValue"
    _computed(jobs["metadata"]["query"], {"{}": 12}, tmp_path)


def test_both_autoscalers_scale_the_server_alike(installations: dict[Choice, list[Object]]) -> None:
    hpa, keda = _hpa(installations)["spec"], _keda(installations)["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "upscaled"}
    assert hpa["scaleTargetRef"] == keda["scaleTargetRef"] == target
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    thresholds = [float(each["metadata"]["threshold"]) for each in keda["triggers"]]
    assert thresholds == list(_wanted(_hpa(installations)).values())


def test_the_simulated_day_has_the_numbers_of_the_manifests(
    installations: dict[Choice, list[Object]],
) -> None:
    scenario = scenarios(1.0)[MANIFESTS]
    scaler, hpa = scenario.scaler, _hpa(installations)["spec"]
    assert scaler is not None
    assert (scaler.minimum, scaler.maximum) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert [scaler.queue_target, scaler.busy_target] == list(_wanted(_hpa(installations)).values())
    up, down = hpa["behavior"]["scaleUp"], hpa["behavior"]["scaleDown"]
    assert {each["periodSeconds"] for each in up["policies"]} == {scaler.up_period_seconds}
    assert {"type": "Pods", "value": scaler.up_pods, "periodSeconds": scaler.up_period_seconds} in up[
        "policies"
    ]
    assert down["stabilizationWindowSeconds"] == scaler.calm_seconds
    assert [each["periodSeconds"] for each in down["policies"]] == [scaler.down_period_seconds]
    settings = (REPO / "deploy/kubernetes/components/calls-only/kustomization.yaml").read_text()
    assert f"UPSCALED_MAX_PENDING_SECONDS={scenario.pool.max_pending_seconds:g}\n" in settings
