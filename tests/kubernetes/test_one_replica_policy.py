"""The admission policies refuse a second replica where state is kept, and nothing else."""

from __future__ import annotations

from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel

from tests.kubernetes.rendering import Object, named


def _holds(expression: str, each: Object) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return bool(program.evaluate({"object": json_to_cel(each)}))


def _refusals(policy: Object, each: Object) -> list[str]:
    """What the API server would say; nothing where the policy is not about the object."""
    spec = policy["spec"]
    if not all(_holds(condition["expression"], each) for condition in spec["matchConditions"]):
        return []
    return [rule["message"] for rule in spec["validations"] if not _holds(rule["expression"], each)]


@pytest.fixture
def of_deployments(extras: dict[str, list[Object]]) -> Object:
    return named(extras["policy"], "ValidatingAdmissionPolicy", "upscaled-one-replica")


@pytest.fixture
def of_scales(extras: dict[str, list[Object]]) -> Object:
    return named(extras["policy"], "ValidatingAdmissionPolicy", "upscaled-one-replica-scale")


@pytest.fixture
def deployment(cpu: list[Object]) -> Object:
    return named(cpu, "Deployment", "upscaled")


def _scale(deployment: Object, replicas: int) -> Object:
    """What `kubectl scale` and autoscalers send, as the API server fills it in."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "upscaled", "namespace": "upscaled"},
        "spec": {"replicas": replicas},
        "status": {"replicas": 1, "selector": selector},
    }


def test_the_server_as_it_is_passes(of_deployments: Object, deployment: Object) -> None:
    assert _refusals(of_deployments, deployment) == []
    del deployment["spec"]["replicas"]  # one is the API's default
    assert _refusals(of_deployments, deployment) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("replicas", 2, "spec.replicas"),
        ("strategy", {"type": "RollingUpdate"}, "spec.strategy.type"),
        ("strategy", {}, "spec.strategy.type"),
    ],
)
def test_a_second_server_on_kept_state_is_refused(
    of_deployments: Object, deployment: Object, field: str, value: Any, said: str
) -> None:
    deployment["spec"][field] = value
    (message,) = _refusals(of_deployments, deployment)
    assert message.startswith(said)


def test_replicas_that_keep_nothing_pass(
    of_deployments: Object, of_scales: Object, scaled: list[Object]
) -> None:
    deployment = named(scaled, "Deployment", "upscaled")
    deployment["spec"]["replicas"] = 20
    assert _refusals(of_deployments, deployment) == []
    assert _refusals(of_scales, _scale(deployment, 20)) == []


def test_scaling_is_refused_beyond_one_and_let_through_down_to_none(
    of_scales: Object, deployment: Object
) -> None:
    assert [bool(_refusals(of_scales, _scale(deployment, count))) for count in (0, 1, 2, 10)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_deployments_of_others_are_let_be(
    of_deployments: Object, of_scales: Object, deployment: Object
) -> None:
    deployment["spec"] |= {"replicas": 5, "selector": {"matchLabels": {"not-upscaled/stores": "embedded"}}}
    assert _refusals(of_deployments, deployment) == []
    assert _refusals(of_scales, _scale(deployment, 5)) == []
    deployment["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    assert _refusals(of_deployments, deployment) == []


def test_each_policy_is_bound_and_refuses_what_cannot_be_judged(extras: dict[str, list[Object]]) -> None:
    policies = [each for each in extras["policy"] if each["kind"] == "ValidatingAdmissionPolicy"]
    for policy in policies:
        name = policy["metadata"]["name"]
        binding = named(extras["policy"], "ValidatingAdmissionPolicyBinding", name)
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
        assert policy["spec"]["failurePolicy"] == "Fail"
    resources = {
        resource
        for policy in policies
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for resource in rule["resources"]
    }
    assert resources == {"deployments", "deployments/scale"}
