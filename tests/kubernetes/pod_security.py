"""The profile `restricted` of the Pod Security Standards, with the profile `baseline` that it builds on.

As published at https://kubernetes.io/docs/concepts/security/pod-security-standards/, for pods on Linux. Each
rule answers with what is against it; where the published text allows a value to be absent, it may be absent
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tests.kubernetes.rendering import Object, containers

_ADDABLE: Final = {"NET_BIND_SERVICE"}
_SELINUX_TYPES: Final = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}

Rule = Callable[[Object], Iterator[str]]


def violations(pod: Object) -> dict[str, list[str]]:
    """By rule, what a pod (or a template of one) does that the profile forbids; empty for one that passes."""
    found = {name: list(rule(pod)) for name, rule in RULES.items()}
    return {name: said for name, said in found.items() if said}


def _contexts(pod: Object) -> Iterator[tuple[str, Object]]:
    """The security contexts of the pod and of each container, with where they are."""
    yield "the pod", pod["spec"].get("securityContext") or {}
    yield from _container_contexts(pod)


def _container_contexts(pod: Object) -> Iterator[tuple[str, Object]]:
    for each in containers(pod):
        yield each["name"], each.get("securityContext") or {}


def _host_process(pod: Object) -> Iterator[str]:
    for where, context in _contexts(pod):
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            yield f"{where}: hostProcess"


def _host_namespaces(pod: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod["spec"].get(field):
            yield field


def _privileged(pod: Object) -> Iterator[str]:
    for where, context in _container_contexts(pod):
        if context.get("privileged"):
            yield f"{where}: privileged"


def _capabilities(pod: Object) -> Iterator[str]:
    for where, context in _container_contexts(pod):
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{where}: does not drop ALL"
        for name in set(capabilities.get("add") or []) - _ADDABLE:
            yield f"{where}: adds {name}"


def _volume_types(pod: Object) -> Iterator[str]:
    """`hostPath`, which the baseline forbids, is one of those that are not allowed here."""
    for volume in pod["spec"].get("volumes") or []:
        kinds = volume.keys() - {"name"}
        if not kinds or kinds - _VOLUMES:
            yield f"volume {volume['name']}: {', '.join(kinds) or 'no type'}"


def _host_ports(pod: Object) -> Iterator[str]:
    for each in containers(pod):
        for port in each.get("ports") or []:
            if port.get("hostPort"):
                yield f"{each['name']}: hostPort {port['hostPort']}"


def _host_of_probes(pod: Object) -> Iterator[str]:
    """Probes and hooks that name a host could be sent anywhere by the kubelet."""
    for each in containers(pod):
        hooks = each.get("lifecycle") or {}
        handlers = {
            name: each.get(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")
        } | hooks
        for name, handler in handlers.items():
            for action in ("httpGet", "tcpSocket"):
                if ((handler or {}).get(action) or {}).get("host"):
                    yield f"{each['name']}: {name} names a host"


def _app_armor(pod: Object) -> Iterator[str]:
    for where, context in _contexts(pod):
        if (context.get("appArmorProfile") or {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
            yield f"{where}: appArmorProfile {context['appArmorProfile']['type']}"
    for key, value in (pod["metadata"].get("annotations") or {}).items():
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(_APPARMOR) and not allowed:
            yield f"{key}: {value}"


def _selinux(pod: Object) -> Iterator[str]:
    for where, context in _contexts(pod):
        options = context.get("seLinuxOptions") or {}
        if options.get("type", "") not in _SELINUX_TYPES or options.get("user") or options.get("role"):
            yield f"{where}: seLinuxOptions {options}"


def _proc_mount(pod: Object) -> Iterator[str]:
    for where, context in _container_contexts(pod):
        if context.get("procMount") not in (None, "Default"):
            yield f"{where}: procMount {context['procMount']}"


def _seccomp(pod: Object) -> Iterator[str]:
    """Every container has a profile, of its own or the pod's; none has `Unconfined`."""
    of_pod, *of_containers = (
        (where, (context.get("seccompProfile") or {}).get("type")) for where, context in _contexts(pod)
    )
    for where, kind in (of_pod, *of_containers):
        if kind not in (None, "RuntimeDefault", "Localhost"):
            yield f"{where}: seccompProfile {kind}"
    if of_pod[1] is None:
        yield from (f"{where}: no seccompProfile" for where, kind in of_containers if kind is None)


def _sysctls(pod: Object) -> Iterator[str]:
    for each in (pod["spec"].get("securityContext") or {}).get("sysctls") or []:
        if each["name"] not in _SYSCTLS:
            yield f"sysctl {each['name']}"


def _privilege_escalation(pod: Object) -> Iterator[str]:
    for where, context in _container_contexts(pod):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: allowPrivilegeEscalation is not false"


def _non_root(pod: Object) -> Iterator[str]:
    """`runAsNonRoot` is true for the pod, or for each container; none says false."""
    of_pod, *of_containers = ((where, context.get("runAsNonRoot")) for where, context in _contexts(pod))
    for where, value in of_containers:
        if value is False or (value is None and of_pod[1] is not True):
            yield f"{where}: runAsNonRoot is not true"


def _non_root_user(pod: Object) -> Iterator[str]:
    for where, context in _contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"{where}: runAsUser 0"


RULES: Final[dict[str, Rule]] = {
    "Host Process": _host_process,
    "Host Namespaces": _host_namespaces,
    "Privileged Containers": _privileged,
    "Capabilities": _capabilities,
    "Volume Types": _volume_types,
    "Host Ports": _host_ports,
    "Host Probes / Lifecycle Hooks": _host_of_probes,
    "AppArmor": _app_armor,
    "SELinux": _selinux,
    "/proc Mount Type": _proc_mount,
    "Seccomp": _seccomp,
    "Sysctls": _sysctls,
    "Privilege Escalation": _privilege_escalation,
    "Running as Non-root": _non_root,
    "Running as Non-root user": _non_root_user,
}
