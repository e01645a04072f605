"""Every pod passes the profile `restricted`, and a pod that breaks one of its rules is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kubernetes.pod_security import RULES, violations
from tests.kubernetes.rendering import Choice, Object, container, pods


def test_every_pod_passes(installations: dict[Choice, list[Object]], extras: dict[str, list[Object]]) -> None:
    rendered = {**{str(choice): found for choice, found in installations.items()}, **extras}
    found = {name: [violations(pod) for pod in pods(objects)] for name, objects in rendered.items()}
    assert {name: said for name, said in found.items() if any(said)} == {}
    assert all(found[name] for name in found if name != "policy")


Spoil = Callable[[Object, Object], object]


def _set(field: str, value: object) -> Spoil:
    return lambda _pod, context: context.__setitem__(field, value)


def _set_in_pod(field: str, value: object) -> Spoil:
    return lambda pod, _context: pod["spec"].__setitem__(field, value)


def _set_in_pods_context(field: str, value: object) -> Spoil:
    return lambda pod, _context: pod["spec"]["securityContext"].__setitem__(field, value)


def _add_volume(volume: Object) -> Spoil:
    return lambda pod, _context: pod["spec"]["volumes"].append(volume)


def _set_in_server(path: tuple[str | int, ...], value: object) -> Spoil:
    def spoil(pod: Object, _context: Object) -> None:
        target = container(pod, "server")
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value  # type: ignore[index]

    return spoil


def _annotate(key: str, value: str) -> Spoil:
    return lambda pod, _context: pod["metadata"].setdefault("annotations", {}).__setitem__(key, value)


CASES: list[tuple[str, Spoil]] = [
    ("Host Process", _set("windowsOptions", {"hostProcess": True})),
    ("Host Process", _set_in_pods_context("windowsOptions", {"hostProcess": True})),
    ("Host Namespaces", _set_in_pod("hostNetwork", True)),
    ("Host Namespaces", _set_in_pod("hostPID", True)),
    ("Host Namespaces", _set_in_pod("hostIPC", True)),
    ("Privileged Containers", _set("privileged", True)),
    ("Capabilities", _set("capabilities", {})),
    ("Capabilities", _set("capabilities", {"drop": ["NET_RAW"]})),
    ("Capabilities", _set("capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
    ("Volume Types", _add_volume({"name": "host", "hostPath": {"path": "/"}})),
    ("Volume Types", _add_volume({"name": "nfs", "nfs": {"server": "nas", "path": "/"}})),
    ("Volume Types", _add_volume({"name": "nothing"})),
    ("Host Ports", _set_in_server(("ports", 0, "hostPort"), 50051)),
    (
        "Host Probes / Lifecycle Hooks",
        _set_in_server(("livenessProbe",), {"httpGet": {"host": "169.254.169.254", "port": 80}}),
    ),
    (
        "Host Probes / Lifecycle Hooks",
        _set_in_server(("lifecycle", "preStop"), {"tcpSocket": {"host": "db", "port": 1}}),
    ),
    ("AppArmor", _set("appArmorProfile", {"type": "Unconfined"})),
    ("AppArmor", _annotate("container.apparmor.security.beta.kubernetes.io/server", "unconfined")),
    ("SELinux", _set("seLinuxOptions", {"type": "spc_t"})),
    ("SELinux", _set_in_pods_context("seLinuxOptions", {"user": "system_u"})),
    ("/proc Mount Type", _set("procMount", "Unmasked")),
    ("Seccomp", _set("seccompProfile", {"type": "Unconfined"})),
    ("Seccomp", _set_in_pods_context("seccompProfile", None)),
    ("Sysctls", _set_in_pods_context("sysctls", [{"name": "kernel.msgmax", "value": "1"}])),
    ("Privilege Escalation", _set("allowPrivilegeEscalation", True)),
    ("Privilege Escalation", lambda _pod, context: context.pop("allowPrivilegeEscalation")),
    ("Running as Non-root", _set("runAsNonRoot", False)),
    ("Running as Non-root", _set_in_pods_context("runAsNonRoot", False)),
    ("Running as Non-root user", _set("runAsUser", 0)),
    ("Running as Non-root user", _set_in_pods_context("runAsUser", 0)),
]


@pytest.mark.parametrize(("rule", "spoil"), CASES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(CASES)])
def test_a_pod_that_breaks_a_rule_is_found_by_that_rule_alone(
    cpu: list[Object], rule: str, spoil: Spoil
) -> None:
    (pod,) = pods(cpu)
    spoil(pod, container(pod, "server")["securityContext"])
    assert list(violations(pod)) == [rule]


def test_a_sidecar_is_looked_at_too(edge_installation: list[Object]) -> None:
    (pod,) = pods(edge_installation)
    container(pod, "envoy")["securityContext"]["privileged"] = True
    assert violations(pod) == {"Privileged Containers": ["envoy: privileged"]}


def test_each_rule_has_a_pod_that_breaks_it() -> None:
    assert {rule for rule, _ in CASES} == set(RULES)
