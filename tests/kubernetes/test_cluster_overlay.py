"""The overlay for many servers: what it is made for beyond what every installation must keep to."""

from __future__ import annotations

import copy

import pytest

from tests.kubernetes import installation_rules
from tests.kubernetes.installation import Installation
from tests.kubernetes.rendering import Choice, Object, named, of_kind
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.storage.settings import StorageSettings


@pytest.fixture
def objects(installations: dict[Choice, list[Object]]) -> list[Object]:
    return copy.deepcopy(installations[Choice("cluster")])


def test_servers_keep_apart_and_are_scaled(objects: list[Object]) -> None:
    deployment = named(objects, "Deployment", "upscaled")
    affinity = deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    apart = term["podAffinityTerm"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert apart["labelSelector"]["matchLabels"].items() <= labels.items()

    assert "replicas" not in deployment["spec"], "KEDA has the say"
    assert named(objects, "ScaledObject", "upscaled")["spec"]["minReplicaCount"] >= 2
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"


def test_servers_share_state_jobs_and_files_and_have_no_volume(objects: list[Object]) -> None:
    installation = Installation(objects)
    assert installation.settings[ClusterSettings].cluster_replicas == 3
    assert installation.settings[StorageSettings].blobs_url.startswith("s3://")
    assert installation.settings[StorageSettings].max_stored_bytes > 0
    assert installation.settings[JobSettings].max_queued_jobs > 0
    assert of_kind(objects, "PersistentVolumeClaim") == []
    assert not installation.keeps_state


def _setting(objects: list[Object], name: str, value: str) -> None:
    (settings,) = (each for each in of_kind(objects, "ConfigMap") if name in each.get("data", {}))
    settings["data"][name] = value


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("UPSCALED_BLOBS_URL", "file:///var/lib/upscaled/blobs", "one server a folder"),
        ("UPSCALED_CLUSTER_CREDENTIALS_FILE", "/etc/nats/upscaled.creds", "read"),
        ("UPSCALED_CLUSTER_URL", "", "one server a folder"),
    ],
)
def test_servers_that_do_not_share_all_are_found(
    objects: list[Object], name: str, value: str, rule: str
) -> None:
    _setting(objects, name, value)
    assert rule in installation_rules.violations(Installation(objects))


def test_servers_that_cannot_reach_nats_are_found(objects: list[Object]) -> None:
    objects.remove(named(objects, "NetworkPolicy", "upscaled-nats"))
    assert list(installation_rules.violations(Installation(objects))) == ["way out"]
