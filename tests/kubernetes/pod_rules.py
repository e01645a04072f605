"""What we ask of every pod beside the profile `restricted`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from tests.kubernetes.rendering import Object, containers, in_bytes
from upscaled._version import __version__

SERVER_IMAGE: Final = "ghcr.io/upscaled/upscaled"

Rule = Callable[[Object], Iterator[str]]


def violations(pod: Object) -> dict[str, list[str]]:
    """By rule, what is against it."""
    found = {name: list(rule(pod)) for name, rule in RULES.items()}
    return {name: said for name, said in found.items() if said}


def _images(pod: Object) -> Iterator[str]:
    """A digest, or a tag that says a version; ours says that of this tree."""
    for each in containers(pod):
        if re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", each["image"]):
            continue
        name, _, tag = each["image"].rpartition(":")
        if not name or "/" in tag or tag == "latest" or "@" in name:
            yield f"{each['image']}: no version"
        elif name == SERVER_IMAGE and tag not in (__version__, f"{__version__}-cuda"):
            yield f"{each['image']}: this is version {__version__}"


def _resources(pod: Object) -> Iterator[str]:
    for each in containers(pod):
        resources = each.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        for name in ("cpu", "memory", "ephemeral-storage"):
            if name not in requests:
                yield f"{each['name']}: requests no {name}"
            if name not in limits:
                yield f"{each['name']}: no limit of {name}"


def _no_token(pod: Object) -> Iterator[str]:
    if pod["spec"].get("automountServiceAccountToken") is not False:
        yield "the token of the service account is mounted"
    if pod["spec"].get("serviceAccountName", "default") == "default":
        yield "the account is the namespace's default"


def _no_service_links(pod: Object) -> Iterator[str]:
    """The variables of every service of the namespace, which nobody asked for."""
    if pod["spec"].get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false"


def _read_only_root(pod: Object) -> Iterator[str]:
    for each in containers(pod):
        if each.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{each['name']}: readOnlyRootFilesystem is not true"


def _user(pod: Object) -> Iterator[str]:
    """By number: `runAsNonRoot` cannot judge a name in the image."""
    context = pod["spec"].get("securityContext", {})
    if context.get("runAsUser") != 65532 or context.get("runAsGroup") != 65532:
        yield "does not run as 65532:65532"


def _scratch_space(pod: Object) -> Iterator[str]:
    """Each has its bound, and together they are less than what the pod is evicted for."""
    total = 0
    for volume in pod["spec"].get("volumes", ()):
        if "emptyDir" not in volume:
            continue
        if "sizeLimit" in (volume["emptyDir"] or {}):
            total += in_bytes(volume["emptyDir"]["sizeLimit"])
        else:
            yield f"volume {volume['name']}: no sizeLimit"
    limits = (each.get("resources", {}).get("limits", {}) for each in containers(pod))
    allowed = sum(in_bytes(each.get("ephemeral-storage", "0")) for each in limits)
    if allowed and total >= allowed:
        yield f"scratch volumes of {total} bytes, and the pod may use {allowed}"


def _mounts(pod: Object) -> Iterator[str]:
    volumes = {each["name"] for each in pod["spec"].get("volumes", ())}
    mounted = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", ())}
    for name in volumes ^ mounted:
        yield f"volume {name}: {'not mounted' if name in volumes else 'not there'}"
    for each in containers(pod):
        for mount in each.get("volumeMounts", ()):
            if "subPath" in mount:
                yield f"{each['name']}: {mount['mountPath']} by subPath, which never sees a change"


RULES: Final[dict[str, Rule]] = {
    "images": _images,
    "resources": _resources,
    "no token": _no_token,
    "no service links": _no_service_links,
    "read-only root": _read_only_root,
    "user": _user,
    "scratch space": _scratch_space,
    "mounts": _mounts,
}
