"""What we ask of an installation as a whole: that its parts fit each other, and what the server does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.kubernetes.installation import DOCUMENTED, Installation, references
from tests.kubernetes.rendering import Object, containers, in_bytes, of_kind
from upscaled_server.access.settings import AccessSettings
from upscaled_server.api.listen import ListenSettings
from upscaled_server.api.tls import TlsSettings
from upscaled_server.engine.weights.settings import WeightSettings
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.jobs.service import _STOP_SECONDS as JOBS_STOP_SECONDS
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.pipeline.decoding import DecodeSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.settings import SettingsError
from upscaled_server.state.folder import StateSettings
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.storage.settings import StorageSettings
from upscaled_server.telemetry.probes import ProbeSettings

# For the server's own heaps, its threads and its other processes.
PROCESSES_BYTES: Final = 1 << 30
# `kubectl apply` writes an object into one annotation of itself.
MAX_APPLIED_BYTES: Final = 262_144

_PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")

Rule = Callable[[Installation], Iterator[str]]


def violations(of: Installation) -> dict[str, list[str]]:
    """By rule, what is against it. With settings that the server does not take, nothing else is looked at."""
    refused = list(_settings(of))
    if refused:
        return {"settings": refused}
    found = {name: list(rule(of)) for name, rule in RULES.items()}
    return {name: said for name, said in found.items() if said}


def _settings(of: Installation) -> Iterator[str]:
    """Every variable is one of the server's, and its value is accepted."""
    try:
        of.settings  # noqa: B018 - read here
    except SettingsError as error:
        yield str(error)


def _probes(of: Installation) -> Iterator[str]:
    """Three for each container; the server's ask what docs/health.md says, in what the port speaks."""
    for each in containers(of.pod):
        for name in _PROBES:
            if name not in each:
                yield f"{each['name']}: no {name}"
    encrypted = of.settings[TlsSettings].files is not None
    for name in _PROBES:
        probe = of.server.get(name, {})
        alive = name != "readinessProbe"
        if encrypted:
            wanted: Object = {"httpGet": {"path": "/livez" if alive else "/readyz", "port": "metrics"}}
        else:
            wanted = {"grpc": {"port": of.ports["grpc"]} | ({"service": "liveness"} if alive else {})}
        asked = {key: probe[key] for key in ("grpc", "httpGet", "tcpSocket", "exec") if key in probe}
        if asked != wanted:
            yield f"server: {name} asks {asked}, not {wanted}"
    start = of.server.get("startupProbe", {})
    if start.get("failureThreshold", 3) * start.get("periodSeconds", 10) < 600:
        yield "server: startupProbe waits less than 600 s for models to warm"
    elif (
        start["failureThreshold"] * start["periodSeconds"] >= of.deployment["spec"]["progressDeadlineSeconds"]
    ):
        yield "progressDeadlineSeconds passes before the start-up probe gives up"


def _grace(of: Installation) -> Iterator[str]:
    """All that comes between the order to stop and the end fits into the time that the kubelet gives."""
    hook = of.server.get("lifecycle", {}).get("preStop", {})
    pause = hook.get("sleep", {}).get("seconds", 0)
    if set(hook) != {"sleep"} or pause < 1:
        yield f"preStop: {hook or 'nothing'}; a `sleep` of the kubelet's needs nothing in the image"
    grace = of.settings[ListenSettings].grace_seconds
    drain = of.settings[PoolSettings].drain_seconds
    needed = pause + JOBS_STOP_SECONDS + grace + drain
    given = of.pod["spec"].get("terminationGracePeriodSeconds", 30)
    if given <= needed:
        yield f"terminationGracePeriodSeconds is {given}, and stopping takes up to {needed:g} s"


def _one_server_a_folder(of: Installation) -> Iterator[str]:
    """State in a folder has one server, which ends before the next one begins; many servers share what they
    keep, or keep nothing."""
    spec = of.deployment["spec"]
    stores = spec["selector"]["matchLabels"].get("upscaled/stores")
    if of.autoscalers and "replicas" in spec and not of.keeps_state:
        yield "replicas are set beside an autoscaler"
    if of.shares_state:
        if of.keeps_state:
            yield "a volume is mounted, which only one pod can have"
        if stores != "shared":
            yield f"the label upscaled/stores is {stores}, and servers share what they keep"
        if not of.settings[StorageSettings].blobs_url.startswith(("s3:", "gs:", "az:")):
            yield "files lie where other servers do not see them"
    elif of.keeps_state:
        if stores != "embedded":
            yield f"the label upscaled/stores is {stores}, so the policy would not see that state is kept"
        if spec.get("replicas", 1) != 1 or of.autoscalers:
            yield "more than one replica, and the stores are embedded"
        if spec["strategy"] != {"type": "Recreate"}:
            yield f"strategy is {spec['strategy']}, not Recreate"
        for claim in of_kind(of.objects, "PersistentVolumeClaim"):
            if claim["spec"]["accessModes"] != ["ReadWriteOncePod"]:
                yield f"{claim['metadata']['name']}: {claim['spec']['accessModes']} lets two pods in"
    else:
        if stores != "none":
            yield f"the label upscaled/stores is {stores}, and nothing is kept"
        if of.settings[JobSettings].max_queued_jobs or of.settings[StorageSettings].max_stored_bytes:
            yield "jobs or files are accepted, which the next replica does not know"


def _ports(of: Installation) -> Iterator[str]:
    """Settings, container, probes, services, monitors and policies mean the same ports."""
    for setting, address in (
        ("grpc", of.settings[ListenSettings].listen),
        ("metrics", of.settings[ProbeSettings].metrics_listen),
    ):
        host, _, port = address.rpartition(":")
        if host != "0.0.0.0" or of.ports.get(setting) != int(port):
            yield f"the server listens on {address}, its port {setting} is {of.ports.get(setting)}"
    named: list[tuple[str, Any]] = []
    for each in containers(of.pod):
        for probe in _PROBES:
            actions = each.get(probe, {}).values()
            named += [(f"{each['name']}: {probe}", it["port"]) for it in actions if isinstance(it, dict)]
    for service in of_kind(of.objects, "Service"):
        named += [(service["metadata"]["name"], port["targetPort"]) for port in service["spec"]["ports"]]
    for monitor in of_kind(of.objects, "PodMonitor"):
        named += [("PodMonitor", each["port"]) for each in monitor["spec"]["podMetricsEndpoints"]]
    opened = set()
    for policy in of_kind(of.objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            opened |= {port["port"] for port in rule["ports"]}
    named += [("NetworkPolicy", port) for port in opened]
    for where, port in named:
        if port not in (*of.ports, *of.ports.values()):
            yield f"{where}: port {port} is none of {of.ports}"
    for port in set(of.ports.values()) - opened:
        yield f"NetworkPolicy: nobody reaches {port}"


def _references(of: Installation) -> Iterator[str]:
    there = {(each["kind"], each["metadata"]["name"]) for each in of.objects}
    for kind, name in set(references(of.objects)) - there - DOCUMENTED:
        yield f"{kind} {name}: neither here nor documented"
    used = set(references(of.objects))
    for kind, name in there - used:
        if kind in ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount"):
            yield f"{kind} {name}: nobody uses it"


def _selectors(of: Installation) -> Iterator[str]:
    """What selects pods selects the server's, and everything can be found by the application's name."""
    labels = of.pod["metadata"]["labels"]
    for each in of.objects:
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") != "upscaled":
            yield f"{each['kind']} {each['metadata']['name']}: not labelled as a part of upscaled"
    for each in of.objects:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                wanted = spec["selector"]
            case "NetworkPolicy":
                wanted = spec["podSelector"]["matchLabels"]
            case "PodDisruptionBudget" | "Deployment" | "PodMonitor":
                wanted = spec["selector"]["matchLabels"]
            case _:
                continue
        if not wanted.items() <= labels.items():
            yield f"{each['kind']} {each['metadata']['name']}: selects {wanted}, the pod has {labels}"
    for spread in of.pod["spec"].get("topologySpreadConstraints", ()):
        if not spread["labelSelector"]["matchLabels"].items() <= labels.items():
            yield f"topologySpreadConstraints: {spread['topologyKey']} does not count this pod"
    services = {each["metadata"]["name"]: each for each in of_kind(of.objects, "Service")}
    for monitor in of_kind(of.objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [
            each for each in services.values() if wanted.items() <= each["metadata"].get("labels", {}).items()
        ]
        ports = {port["name"] for each in found for port in each["spec"]["ports"]}
        if len(found) != 1 or {each["port"] for each in monitor["spec"]["endpoints"]} - ports:
            yield f"ServiceMonitor: selects {len(found)} services with ports {ports}"


def _spread(of: Installation) -> Iterator[str]:
    keys = {each["topologyKey"] for each in of.pod["spec"].get("topologySpreadConstraints", ())}
    if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
        yield f"replicas are spread over {keys or 'nothing'}"
    if not of_kind(of.objects, "PodDisruptionBudget"):
        yield "no PodDisruptionBudget"


def _writable(of: Installation) -> Iterator[str]:
    """What the server writes lies on a volume, as its root cannot be written."""
    paths = {
        "UPSCALED_DATA_DIR": of.settings[StateSettings].data_dir,
        "UPSCALED_MODEL_CACHE": of.settings[WeightSettings].store_options().cache,
        "HOME": of.environ.get("HOME", "not set"),
    }
    for name, path in paths.items():
        found = of.volume_of(str(path))
        if (
            found is None
            or found[0].get("readOnly")
            or not found[1].keys() & {"emptyDir", "persistentVolumeClaim"}
        ):
            yield f"{name}: {path} cannot be written"


def _read(of: Installation) -> Iterator[str]:
    """What the server reads is mounted."""
    tls = of.settings[TlsSettings]
    for path in (
        of.settings[AccessSettings].api_keys_file,
        of.settings[WeightSettings].model_dir,
        tls.tls_cert_file,
        tls.tls_key_file,
        of.settings[ClusterSettings].cluster_credentials_file,
        of.settings[ClusterSettings].cluster_ca_file,
    ):
        if path is not None and of.volume_of(str(path)) is None:
            yield f"{path} is not mounted"
    if of.settings[ListenSettings].auth != "keys" or of.settings[AccessSettings].api_keys_file is None:
        yield "the server asks for no keys"


def _memory(of: Installation) -> Iterator[str]:
    """On the CPU all that the server bounds by itself fits into the container together."""
    pool, limit = of.settings[PoolSettings], in_bytes(of.server["resources"]["limits"]["memory"])
    if pool.devices != "cpu":
        return
    if pool.memory_budget_bytes is None or pool.model_budget_bytes is None:
        yield "UPSCALED_MEMORY_BUDGET_BYTES or UPSCALED_MODEL_BUDGET_BYTES is not set"
        return
    decode = of.settings[DecodeSettings]
    bounds = (
        pool.memory_budget_bytes
        + pool.model_budget_bytes
        # One image may need more than all together have, and then has it nearly alone.
        + max(decode.decode_total_bytes, decode.decode_memory_bytes)
        + of.settings[LimitSettings].max_uploading_bytes
        + PROCESSES_BYTES
    )
    if bounds > limit:
        yield f"the bounds come to {bounds} bytes, and the container has {limit}"


def _storage(of: Installation) -> Iterator[str]:
    storage = of.settings[StorageSettings]
    for claim in of_kind(of.objects, "PersistentVolumeClaim"):
        size = in_bytes(claim["spec"]["resources"]["requests"]["storage"])
        if storage.max_stored_bytes + storage.min_free_bytes >= size:
            yield f"{claim['metadata']['name']}: {size} bytes are not more than what is kept and kept free"


def _way_out(of: Installation) -> Iterator[str]:
    """The server dials the public web if and only if its network policy lets it, and reaches what it keeps
    its state and files in."""
    dials = bool(
        of.settings[FetchSettings].fetch_schemes
        or of.settings[CallbackSettings].callback_ports
        or of.settings[WeightSettings].model_download
    )
    opened = any(
        each["metadata"]["name"] == "upscaled-public-web" for each in of_kind(of.objects, "NetworkPolicy")
    )
    if dials != opened:
        yield f"the settings dial the web: {dials}; the policy lets them: {opened}"
    policies = {each["metadata"]["name"] for each in of_kind(of.objects, "NetworkPolicy")}
    if of.settings[StorageSettings].blobs_url.startswith("s3:") and "upscaled-s3" not in policies:
        yield "the bucket cannot be reached"
    if of.shares_state and "upscaled-nats" not in policies:
        yield "NATS cannot be reached"


def _card(of: Installation) -> Iterator[str]:
    """A pod that is to compute on a card asks for one, in whole or in part, and comes onto a node that has
    one."""
    asked = {
        name: count
        for name, count in of.server["resources"]["limits"].items()
        if name.startswith("nvidia.com/")
    }
    spec = of.pod["spec"]
    if of.settings[PoolSettings].devices != "cuda:0":
        if asked:
            yield f"asks for {asked}, and computes on {of.settings[PoolSettings].devices}"
        return
    if list(asked.values()) != ["1"]:
        yield f"computes on a card, and asks for {asked or 'none'}"
    tolerated = [each["key"] for each in spec.get("tolerations", ())]
    if spec.get("runtimeClassName") != "nvidia" or tolerated != ["nvidia.com/gpu"]:
        yield f"runtimeClassName {spec.get('runtimeClassName')}, tolerations {tolerated}"
    if not ("@" in of.server["image"] or of.server["image"].endswith("-cuda")):
        yield f"{of.server['image']} has no CUDA"


def _envoy(of: Installation) -> Iterator[str]:
    """Envoy outlives the server, and speaks to it unencrypted."""
    for each in of.pod["spec"].get("initContainers", ()):
        if each.get("restartPolicy") != "Always":
            yield f"{each['name']}: not a sidecar, so it ends before the server's calls do, or never begins"
    if len(of.pod["spec"]["containers"]) != 1:
        yield "a second container is stopped together with the server"
    if of.settings[TlsSettings].files and "http" in of.ports:
        yield "Envoy cannot reach a server that speaks TLS"


def _applied(of: Installation) -> Iterator[str]:
    for each in of.objects:
        size = len(json.dumps(each))
        if size > MAX_APPLIED_BYTES:
            yield f"{each['kind']} {each['metadata']['name']}: {size} bytes are too many for kubectl apply"


RULES: Final[dict[str, Rule]] = {
    "settings": _settings,
    "probes": _probes,
    "grace": _grace,
    "one server a folder": _one_server_a_folder,
    "ports": _ports,
    "references": _references,
    "selectors": _selectors,
    "spread": _spread,
    "writable": _writable,
    "read": _read,
    "memory": _memory,
    "storage": _storage,
    "way out": _way_out,
    "card": _card,
    "envoy": _envoy,
    "applied": _applied,
}
