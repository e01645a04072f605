"""Renders kustomizations as `kubectl apply -k` would, and knows which of them belong together."""

from __future__ import annotations

import itertools
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.conftest import REPO

Object: TypeAlias = dict[str, Any]

# libyaml's, where it is there: by far the faster one.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

OVERLAYS = ("cpu", "gpu", "cluster")
COMPONENTS = (
    "public-web",
    "s3-blobs",
    "model-volume",
    "edge",
    "tls",
    "traces",
    "pod-monitor",
    "service-monitor",
    "mig",
    "calls-only",
    "shared-stores",
    "hpa",
    "keda",
)
NEEDS = {"hpa": "calls-only", "keda": "calls-only", "shared-stores": "s3-blobs"}
# Components that are in an overlay already, or do not go with it.
NOT_IN = {
    "cpu": {"mig"},
    "gpu": set[str](),
    "cluster": {"mig", "calls-only", "shared-stores", "hpa", "keda", "s3-blobs"},
}
# TLS ends in front of Envoy; what keeps nothing needs no bucket; KEDA makes an autoscaler of its own.
APART = (
    {"edge", "tls"},
    {"calls-only", "s3-blobs"},
    {"calls-only", "shared-stores"},
    {"hpa", "keda"},
    {"pod-monitor", "service-monitor"},
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One installation: an overlay and components in their order."""

    overlay: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "+".join((self.overlay, *self.components))


def choices() -> Iterator[Choice]:
    """Every overlay alone, with each component and with as many as go together; on the CPU each pair too."""
    for overlay in OVERLAYS:
        usable = [name for name in COMPONENTS if name not in NOT_IN[overlay]]
        pairs = [(), *((each,) for each in usable)]
        if overlay == "cpu":
            pairs += itertools.combinations(usable, 2)
        most = (
            tuple(
                name
                for name in usable
                if name not in ("calls-only", "shared-stores", "hpa", "keda", "edge", "service-monitor")
            ),
            tuple(
                name
                for name in usable
                if name not in ("s3-blobs", "shared-stores", "keda", "tls", "pod-monitor")
            ),
            tuple(name for name in usable if name not in ("calls-only", "hpa", "keda", "tls", "pod-monitor")),
        )
        yield from dict.fromkeys(
            Choice(overlay, chosen) for chosen in map(_with_needs, (*pairs, *most)) if _go_together(chosen)
        )


def _with_needs(chosen: Iterable[str]) -> tuple[str, ...]:
    names = set(chosen)
    names |= {NEEDS[name] for name in names & NEEDS.keys()}
    return tuple(name for name in COMPONENTS if name in names)


def _go_together(chosen: tuple[str, ...]) -> bool:
    return not any(apart <= set(chosen) for apart in APART)


def copy_tree(target: Path) -> Path:
    """`deploy/` with what `make edge-descriptors` adds, in a folder of its own; the path of its
    `kubernetes`."""
    shutil.copytree(REPO / "deploy", target / "deploy", ignore=shutil.ignore_patterns("*.pb"))
    folder = str(REPO / "scripts")
    sys.path.insert(0, folder)
    try:
        script = runpy.run_path(f"{folder}/generate_stubs.py")
    finally:
        sys.path.remove(folder)
    script["write_descriptors"](target / "deploy" / "envoy" / "upscaled.pb")
    return target / "deploy" / "kubernetes"


def kustomize_is_here() -> bool:
    """Whether there is a kubectl whose kustomize is of version 5, the first to know all that is used."""
    if shutil.which("kubectl") is None:
        return False
    command = ["kubectl", "version", "--client", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    version = json.loads(done.stdout or "{}").get("kustomizeVersion", "v0")
    return int(version.removeprefix("v").partition(".")[0]) >= 5


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization. Raises RuntimeError with what kubectl says."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{folder}: {done.stderr}")
    return [each for each in yaml.load_all(done.stdout, _Loader) if each]


def render_choice(kubernetes: Path, choice: Choice, folder: Path) -> list[Object]:
    """As somebody's own kustomization beside the tree, which names a namespace."""
    beside = os.path.relpath(kubernetes, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "upscaled",
        "resources": [f"{beside}/overlays/{choice.overlay}"],
        "components": [f"{beside}/components/{name}" for name in choice.components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return render(folder)


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Iterable[Object], kind: str, name: str) -> Object:
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"] == name)
    return found


def pods(objects: Iterable[Object]) -> list[Object]:
    """The pod templates of what runs pods."""
    return [
        each["spec"]["template"] for each in of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job")
    ]


def containers(pod: Object) -> list[Object]:
    """All of a pod, ephemeral ones included."""
    spec = pod["spec"]
    return [
        each
        for field in ("initContainers", "containers", "ephemeralContainers")
        for each in spec.get(field, ())
    ]


def container(pod: Object, name: str) -> Object:
    (found,) = (each for each in containers(pod) if each["name"] == name)
    return found


def in_bytes(quantity: str) -> int:
    """A quantity of memory or storage."""
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * factor
    return int(quantity)
