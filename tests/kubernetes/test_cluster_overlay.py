"""The overlay for many servers: what it is made for beyond what every installation must keep to."""

from __future__ import annotations

from tests.kubernetes.rendering import Choice, Object, named, of_kind


def test_servers_keep_apart_are_scaled_and_keep_nothing(installations: dict[Choice, list[Object]]) -> None:
    objects = installations[Choice("cluster")]
    deployment = named(objects, "Deployment", "upscaled")
    affinity = deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    apart = term["podAffinityTerm"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert apart["labelSelector"]["matchLabels"].items() <= labels.items()

    assert "replicas" not in deployment["spec"], "KEDA has the say"
    assert named(objects, "ScaledObject", "upscaled")["spec"]["minReplicaCount"] >= 2
    assert of_kind(objects, "PersistentVolumeClaim") == []
    (settings,) = of_kind(objects, "ConfigMap")
    assert (settings["data"]["UPSCALED_MAX_QUEUED_JOBS"], settings["data"]["UPSCALED_MAX_STORED_BYTES"]) == (
        "0",
        "0",
    )
