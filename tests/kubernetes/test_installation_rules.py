"""Every installation fits together and fits the server, and one that does not is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.kubernetes import installation_rules, pod_rules
from tests.kubernetes.installation import Installation
from tests.kubernetes.rendering import Choice, Object, container, named, of_kind, pods


def test_every_installation_is_in_order(installations: dict[Choice, list[Object]]) -> None:
    found = {
        str(choice): installation_rules.violations(Installation(copy.deepcopy(objects)))
        for choice, objects in installations.items()
    }
    assert {name: said for name, said in found.items() if said} == {}


def test_every_pod_is_in_order(
    installations: dict[Choice, list[Object]], extras: dict[str, list[Object]]
) -> None:
    rendered = {**{str(choice): found for choice, found in installations.items()}, **extras}
    found = {name: [pod_rules.violations(pod) for pod in pods(objects)] for name, objects in rendered.items()}
    assert {name: said for name, said in found.items() if any(said)} == {}


Spoil = Callable[[list[Object]], object]


def _set(kind: str, name: str, path: str, value: Any) -> Spoil:
    """`path`: steps separated by dots; a step of digits is a place in a list."""

    def spoil(objects: list[Object]) -> None:
        *steps, last = (int(step) if step.isdigit() else step.replace("~", ".") for step in path.split("."))
        target: Any = named(objects, kind, name)
        for step in steps:
            target = target[step]
        if value is ...:
            del target[last]
        elif isinstance(target, list) and last == len(target):
            target.append(value)
        else:
            target[last] = value

    return spoil


def _in_deployment(path: str, value: Any) -> Spoil:
    return _set("Deployment", "upscaled", f"spec.{path}", value)


def _in_pod(path: str, value: Any) -> Spoil:
    return _in_deployment(f"template.spec.{path}", value)


def _in_server(path: str, value: Any) -> Spoil:
    return _in_pod(f"containers.0.{path}", value)


def _setting(name: str, value: str) -> Spoil:
    def spoil(objects: list[Object]) -> None:
        (settings,) = (
            each
            for each in of_kind(objects, "ConfigMap")
            if each["metadata"]["name"].startswith("upscaled-settings-")
        )
        settings["data"][name] = value

    return spoil


def _without(kind: str, name: str) -> Spoil:
    return lambda objects: objects.remove(named(objects, kind, name))


POD_CASES: list[tuple[str, Spoil]] = [
    ("images", _in_server("image", "ghcr.io/upscaled/upscaled:latest")),
    ("images", _in_server("image", "ghcr.io/upscaled/upscaled")),
    ("images", _in_server("image", "registry.example:5000/upscaled")),
    ("images", _in_server("image", "ghcr.io/upscaled/upscaled:0.0.1")),
    ("images", _in_server("image", "ghcr.io/upscaled/upscaled@sha256:abc")),
    ("resources", _in_server("resources.requests.memory", ...)),
    ("resources", _in_server("resources.limits.ephemeral-storage", ...)),
    ("no token", _in_pod("automountServiceAccountToken", ...)),
    ("no token", _in_pod("serviceAccountName", "default")),
    ("no service links", _in_pod("enableServiceLinks", ...)),
    ("read-only root", _in_server("securityContext.readOnlyRootFilesystem", False)),
    ("user", _in_pod("securityContext.runAsUser", 1000)),
    ("scratch space", _in_pod("volumes.1.emptyDir", {})),
    ("scratch space", _in_pod("volumes.1.emptyDir.sizeLimit", "4Gi")),
    ("mounts", _in_server("volumeMounts.3", {"name": "other", "mountPath": "/other"})),
    ("mounts", _in_server("volumeMounts.2.subPath", "keys.yaml")),
]

CPU_CASES: list[tuple[str, Spoil]] = [
    ("settings", _setting("UPSCALED_GRACE_SECOND", "60")),
    ("settings", _setting("UPSCALED_GRACE_SECONDS", "a minute")),
    ("probes", _in_server("startupProbe", ...)),
    ("probes", _in_server("livenessProbe.grpc.service", ...)),
    ("probes", _in_server("readinessProbe.grpc.service", "liveness")),
    ("probes", _in_server("startupProbe.failureThreshold", 3)),
    ("probes", _in_deployment("progressDeadlineSeconds", 600)),
    ("grace", _setting("UPSCALED_GRACE_SECONDS", "90")),
    ("grace", _in_pod("terminationGracePeriodSeconds", ...)),
    ("grace", _in_server("lifecycle.preStop", {"exec": {"command": ["sleep", "5"]}})),
    ("grace", _in_server("lifecycle", ...)),
    ("one server a folder", _in_deployment("replicas", 2)),
    ("one server a folder", _in_deployment("strategy", {"type": "RollingUpdate"})),
    (
        "one server a folder",
        _set("PersistentVolumeClaim", "upscaled-data", "spec.accessModes", ["ReadWriteMany"]),
    ),
    ("ports", _setting("UPSCALED_LISTEN", "0.0.0.0:50052")),
    ("ports", _setting("UPSCALED_METRICS_LISTEN", "127.0.0.1:9464")),
    ("ports", _set("Service", "upscaled", "spec.ports.0.targetPort", "http")),
    ("ports", _set("NetworkPolicy", "upscaled", "spec.ingress.1", ...)),
    ("references", _in_pod("volumes.2.secret.secretName", "upscaled-key")),
    ("references", _without("ServiceAccount", "upscaled")),
    ("selectors", _set("Service", "upscaled", "spec.selector", {"app": "upscaled"})),
    ("selectors", _set("PodDisruptionBudget", "upscaled", "spec.selector.matchLabels", {"app": "upscaled"})),
    ("selectors", _set("NetworkPolicy", "upscaled", "metadata.labels", {})),
    ("spread", _in_pod("topologySpreadConstraints", ...)),
    ("spread", _without("PodDisruptionBudget", "upscaled")),
    ("writable", _setting("UPSCALED_MODEL_CACHE", "/models")),
    ("writable", _in_server("env.0.value", "/home/upscaled")),
    ("read", _setting("UPSCALED_API_KEYS_FILE", "/keys.yaml")),
    ("read", _setting("UPSCALED_AUTH", "none")),
    ("memory", _setting("UPSCALED_MEMORY_BUDGET_BYTES", str(6 << 30))),
    ("memory", _in_server("resources.limits.memory", "4Gi")),
    ("storage", _setting("UPSCALED_MAX_STORED_BYTES", str(40 << 30))),
    ("way out", _setting("UPSCALED_FETCH_SCHEMES", "https")),
    ("way out", _setting("UPSCALED_BLOBS_URL", "s3://upscaled/blobs")),
    ("card", _in_server("resources.limits.nvidia~com/gpu", "1")),
    ("card", _setting("UPSCALED_DEVICES", "cuda:0")),
    ("envoy", _in_pod("containers.1", {"name": "envoy", "image": "envoy:1"})),
    ("applied", _setting("padding", "x" * installation_rules.MAX_APPLIED_BYTES)),
]


@pytest.mark.parametrize(
    ("rule", "spoil"), POD_CASES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(POD_CASES)]
)
def test_a_pod_that_is_not_in_order_is_found(cpu: list[Object], rule: str, spoil: Spoil) -> None:
    spoil(cpu)
    (pod,) = pods(cpu)
    assert list(pod_rules.violations(pod)) == [rule]


@pytest.mark.parametrize(
    ("rule", "spoil"), CPU_CASES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(CPU_CASES)]
)
def test_an_installation_that_is_not_in_order_is_found(cpu: list[Object], rule: str, spoil: Spoil) -> None:
    spoil(cpu)
    assert rule in installation_rules.violations(Installation(cpu))


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _ in POD_CASES} == set(pod_rules.RULES)
    assert {rule for rule, _ in CPU_CASES} == set(installation_rules.RULES)


def test_state_that_is_kept_cannot_be_scaled(cpu: list[Object], scaled: list[Object]) -> None:
    cpu += of_kind(scaled, "HorizontalPodAutoscaler")
    assert "one server a folder" in installation_rules.violations(Installation(cpu))


@pytest.mark.parametrize("setting", ["UPSCALED_MAX_QUEUED_JOBS", "UPSCALED_MAX_STORED_BYTES"])
def test_replicas_that_keep_nothing_must_refuse_what_would_be_kept(
    scaled: list[Object], setting: str
) -> None:
    _setting(setting, "10")(scaled)
    assert list(installation_rules.violations(Installation(scaled))) == ["one server a folder"]


def test_an_autoscaler_and_a_number_of_replicas_do_not_go_together(scaled: list[Object]) -> None:
    _in_deployment("replicas", 2)(scaled)
    assert list(installation_rules.violations(Installation(scaled))) == ["one server a folder"]


def test_envoy_must_be_a_sidecar(edge_installation: list[Object]) -> None:
    del container(pods(edge_installation)[0], "envoy")["restartPolicy"]
    assert list(installation_rules.violations(Installation(edge_installation))) == ["envoy"]


def test_envoy_and_tls_on_the_server_do_not_go_together(edge_installation: list[Object]) -> None:
    _setting("UPSCALED_TLS_CERT_FILE", "/tls.crt")(edge_installation)
    _setting("UPSCALED_TLS_KEY_FILE", "/tls.key")(edge_installation)
    assert "envoy" in installation_rules.violations(Installation(edge_installation))


def test_probes_by_grpc_do_not_go_together_with_tls(installations: dict[Choice, list[Object]]) -> None:
    objects = copy.deepcopy(installations[Choice("cpu", ("tls",))])
    _in_server("readinessProbe", {"grpc": {"port": 50051}})(objects)
    assert list(installation_rules.violations(Installation(objects))) == ["probes"]


@pytest.mark.parametrize(
    "spoil",
    [
        _in_server("image", "ghcr.io/upscaled/upscaled:0.1.0.dev0"),
        _in_pod("tolerations", []),
        _in_pod("runtimeClassName", ...),
        _in_server("resources.limits.nvidia~com/gpu", "2"),
    ],
)
def test_a_pod_that_would_not_get_its_card_is_found(
    installations: dict[Choice, list[Object]], spoil: Spoil
) -> None:
    objects = copy.deepcopy(installations[Choice("gpu")])
    spoil(objects)
    assert list(installation_rules.violations(Installation(objects))) == ["card"]


def test_a_card_in_part_takes_the_place_of_a_whole_one(installations: dict[Choice, list[Object]]) -> None:
    objects = installations[Choice("gpu", ("mig",))]
    limits = Installation(objects).server["resources"]["limits"]
    assert {name for name in limits if "nvidia" in name} == {"nvidia.com/mig-1g.10gb"}
