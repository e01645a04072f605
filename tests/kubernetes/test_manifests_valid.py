"""Every object is what the API of the three newest versions of Kubernetes takes, to the last field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions

from tests.kubernetes.custom_resources import SCHEMAS
from tests.kubernetes.rendering import Choice, Object, named

VERSIONS = list(dict.fromkeys(".".join(version.split(".")[:2]) for version in all_versions()))[-3:]


def check(each: Object, version: str) -> None:
    """Raises `kubernetes_validate.ValidationError` or `jsonschema.ValidationError`."""
    if each["kind"] in SCHEMAS:
        jsonschema.validate(each, SCHEMAS[each["kind"]])
    else:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.fixture(scope="module")
def distinct(installations: dict[Choice, list[Object]], extras: dict[str, list[Object]]) -> list[Object]:
    """Every object that any installation has, once."""
    everything = [each for found in (*installations.values(), *extras.values()) for each in found]
    return list({json.dumps(each, sort_keys=True): each for each in everything}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(distinct: list[Object], version: str) -> None:
    for each in distinct:
        check(each, version)


def test_all_kinds_are_there(distinct: list[Object]) -> None:
    assert {each["kind"] for each in distinct} == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Job",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "PodMonitor",
        "ScaledObject",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }


SPOILS: dict[str, tuple[str, Callable[[Object], object]]] = {
    "Deployment": (
        "upscaled",
        lambda each: each["spec"]["template"]["spec"].update(terminationGracePeriod=120),
    ),
    "HorizontalPodAutoscaler": ("upscaled", lambda each: each["spec"].update(maxReplicas="many")),
    "PodMonitor": ("upscaled", lambda each: each["spec"]["podMetricsEndpoints"][0].update(interval="15")),
    "ScaledObject": ("upscaled", lambda each: each["spec"]["triggers"][0]["metadata"].update(threshold=30)),
    "ServiceMonitor": ("upscaled", lambda each: each["spec"].update(endpoint=[])),
    "ValidatingAdmissionPolicy": (
        "upscaled-one-replica",
        lambda each: each["spec"].pop("failurePolicy") and each["spec"].update(fail="Deny"),
    ),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_an_object_with_a_field_that_is_not_known_or_not_right_is_refused(
    distinct: list[Object], kind: str
) -> None:
    name, spoil = SPOILS[kind]
    each = copy.deepcopy(
        next(each for each in distinct if (each["kind"], each["metadata"]["name"]) == (kind, name))
    )
    check(each, VERSIONS[-1])
    spoil(each)
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(each, VERSIONS[-1])


def test_probes_and_sidecars_are_of_a_kind_that_these_versions_have(edge_installation: list[Object]) -> None:
    pod = named(edge_installation, "Deployment", "upscaled")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] > 0
