"""What the rules for an installation look at: its server's pod, its settings, what others name of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from tests.kubernetes.rendering import Object, container, containers, of_kind, pods
from upscaled_server.app import SETTINGS
from upscaled_server.settings import Settings
from upscaled_server.state.nats.settings import ClusterSettings

# What the operator makes; deploy/kubernetes/README.md says how.
DOCUMENTED = {
    ("Secret", "upscaled-keys"),
    ("Secret", "upscaled-tls"),
    ("Secret", "upscaled-s3"),
    ("Secret", "upscaled-nats"),
    ("Secret", "upscaled-smoke-test"),
    ("PersistentVolumeClaim", "upscaled-models"),
}


@dataclass
class Installation:
    """The objects of one kustomization that has a server."""

    objects: list[Object]

    @cached_property
    def deployment(self) -> Object:
        (found,) = of_kind(self.objects, "Deployment")
        return found

    @cached_property
    def pod(self) -> Object:
        return self.deployment["spec"]["template"]

    @cached_property
    def server(self) -> Object:
        return container(self.pod, "server")

    @cached_property
    def environ(self) -> dict[str, str]:
        return environ_of(self.server, self.objects)

    @cached_property
    def settings(self) -> Settings:
        """As the server reads them. Raises `SettingsError`."""
        return Settings(SETTINGS, self.environ)

    @property
    def keeps_state(self) -> bool:
        """Whether what the server writes into its data folder outlives the pod."""
        return any(
            volume["name"] == "data" and "persistentVolumeClaim" in volume
            for volume in self.pod["spec"]["volumes"]
        )

    @property
    def shares_state(self) -> bool:
        """Whether servers keep it together, in NATS."""
        return bool(self.settings[ClusterSettings].cluster_url)

    @property
    def autoscalers(self) -> list[Object]:
        return of_kind(self.objects, "HorizontalPodAutoscaler", "ScaledObject")

    @cached_property
    def ports(self) -> dict[str, int]:
        """Of all containers, by name."""
        return {
            port["name"]: port["containerPort"]
            for each in containers(self.pod)
            for port in each.get("ports", ())
        }

    def volume_of(self, path: str) -> tuple[Object, Object] | None:
        """The mount that a path of the server lies in, and its volume."""
        volumes = {each["name"]: each for each in self.pod["spec"]["volumes"]}
        for mount in self.server["volumeMounts"]:
            if PurePosixPath(path).is_relative_to(mount["mountPath"]):
                return mount, volumes[mount["name"]]
        return None


def environ_of(of: Object, objects: list[Object]) -> dict[str, str]:
    """The variables of a container as far as they are written down: those of Secrets are not."""
    maps = {
        each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap") if "data" in each
    }
    found: dict[str, str] = {}
    for source in of.get("envFrom", ()):
        if "configMapRef" in source:
            found |= maps.get(source["configMapRef"]["name"], {})
    return found | {each["name"]: each["value"] for each in of.get("env", ()) if "value" in each}


def references(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """Kind and name of every ConfigMap, Secret, claim and account that a pod cannot start without."""
    for pod in pods(objects):
        yield "ServiceAccount", pod["spec"].get("serviceAccountName", "default")
        for volume in pod["spec"].get("volumes", ()):
            sources = [volume, *volume.get("projected", {}).get("sources", ())]
            for source in sources:
                if "configMap" in source:
                    yield "ConfigMap", source["configMap"]["name"]
                if "secret" in source:
                    yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
                if "persistentVolumeClaim" in source:
                    yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]
        for each in containers(pod):
            taken = list(each.get("envFrom", ()))
            taken += [variable["valueFrom"] for variable in each.get("env", ()) if "valueFrom" in variable]
            for source in taken:
                for key, kind in (
                    ("configMapRef", "ConfigMap"),
                    ("configMapKeyRef", "ConfigMap"),
                    ("secretRef", "Secret"),
                    ("secretKeyRef", "Secret"),
                ):
                    if key in source and not source[key].get("optional"):
                        yield kind, source[key]["name"]
